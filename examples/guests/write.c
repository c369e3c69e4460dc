/* write: makes /out/hello.txt, /out/deep/er/table.csv and an empty /out/empty; with arguments NAME BYTES it writes one
 * file of that size instead. Exits with 1 and the reason when a file cannot be written. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void fail(const char *path) {
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    exit(1);
}

static void put(const char *path, const char *text, unsigned long long times) {
    FILE *f = fopen(path, "w");
    if (!f) fail(path);
    for (unsigned long long i = 0; i < times; i++)
        if (fputs(text, f) < 0) fail(path);
    if (fclose(f) != 0) fail(path);
}

int main(int argc, char **argv) {
    if (argc == 3) {
        put(argv[1], "x", strtoull(argv[2], 0, 10));
        return 0;
    }
    put("/out/hello.txt", "hello from the guest\n", 1);
    if (mkdir("/out/deep", 0777) != 0 || mkdir("/out/deep/er", 0777) != 0) fail("/out/deep/er");
    put("/out/deep/er/table.csv", "a,b\n1,2\n", 1);
    put("/out/empty", "", 0);
    puts("wrote 3 files");
    return 0;
}
