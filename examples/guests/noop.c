/* noop: does nothing and exits with 0. What starting a task costs, and nothing else. */
int main(void) { return 0; }
