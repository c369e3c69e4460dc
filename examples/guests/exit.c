/* exit N: says so on standard error and exits with code N. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int code = argc > 1 ? atoi(argv[1]) : 0;
    fprintf(stderr, "leaving with %d\n", code);
    return code;
}
