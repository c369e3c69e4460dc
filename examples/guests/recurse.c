/* recurse N: calls itself N levels deep (for ever without N): the machine stack's end, not the memory's. */
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) static unsigned dive(unsigned depth, unsigned floor) {
    volatile unsigned here = depth;
    if (depth == floor) return 1;
    return dive(depth + 1, floor) + (here & 1);
}

int main(int argc, char **argv) {
    unsigned floor = argc > 1 ? (unsigned)strtoul(argv[1], 0, 10) : 0xffffffffu;
    printf("%u\n", dive(0, floor));
    return 0;
}
