/* flood [BYTES]: writes that much to standard output (10 GB when not told), whatever the other end says about it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    static char block[1 << 16];
    unsigned long long left = argc > 1 ? strtoull(argv[1], 0, 10) : 10000000000ull;
    memset(block, 'x', sizeof block);
    while (left > 0) {
        size_t want = left < sizeof block ? (size_t)left : sizeof block;
        ssize_t n = write(1, block, want);
        if (n <= 0) return 1;
        left -= (unsigned long long)n;
    }
    return 0;
}
