/* bomb: takes memory, a mebibyte at a time and touching each page, until it is refused; then aborts as most programs
 * do. `bomb gently` takes the refusal calmly: prints how many MiB it got and exits with 7. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    unsigned mib = 0;
    for (char *block; (block = malloc(1 << 20)) != NULL; mib++) {
        for (size_t page = 0; page < (1 << 20); page += 4096) ((volatile char *)block)[page] = 1;
    }
    if (argc > 1 && strcmp(argv[1], "gently") == 0) {
        printf("%u MiB\n", mib);
        return 7;
    }
    abort();
}
