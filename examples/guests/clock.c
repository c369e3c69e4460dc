/* clock: prints the wall clock, the monotonic clock twice, and 16 random bytes. Two runs of one task print the same. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static void show(const char *name, clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    printf("%s %lld.%09ld\n", name, (long long)t.tv_sec, t.tv_nsec);
}

int main(void) {
    unsigned char bytes[16];
    show("wall", CLOCK_REALTIME);
    show("monotonic", CLOCK_MONOTONIC);
    show("monotonic", CLOCK_MONOTONIC);
    if (getentropy(bytes, sizeof bytes) != 0) return 1;
    for (unsigned i = 0; i < sizeof bytes; i++) printf("%02x", bytes[i]);
    puts("");
    return 0;
}
