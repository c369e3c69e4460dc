/* spin: an endless loop that no compiler may remove. Ends only by fuel or by a deadline. */
int main(void) {
    volatile unsigned turns = 0;
    for (;;) turns++;
}
