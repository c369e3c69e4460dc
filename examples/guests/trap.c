/* trap: prints one line, then runs into an `unreachable` instruction. */
#include <stdio.h>

int main(void) {
    puts("before the trap");
    fflush(stdout);
    __builtin_trap();
}
