/* integer: SHA-256, an LZ77 compressor and quicksort, over made-up data: work without a single float.
 *
 *   integer [ROUNDS]     prints the digest after each round (4 rounds when not told)
 *
 * What a machine that counts instructions loses on branches and table look-ups, next to the same C built natively.
 * The output is the same everywhere: there is no float, no clock and no undefined order in it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- SHA-256 (FIPS 180-4) -------------------------------------------------------------------------------------- */

static const uint32_t ROUND_WORDS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t turned(uint32_t x, int by) { return (x >> by) | (x << (32 - by)); }

static void sha256_block(uint32_t state[8], const uint8_t *p) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++, p += 4)
        w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ (w[i - 15] >> 3);
        uint32_t b = turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ (w[i - 2] >> 10);
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t e = turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25), choice = (s[4] & s[5]) ^ (~s[4] & s[6]);
        uint32_t a = turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22);
        uint32_t most = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
        uint32_t one = s[7] + e + choice + ROUND_WORDS[i] + w[i], two = a + most;
        s[7] = s[6], s[6] = s[5], s[5] = s[4], s[4] = s[3] + one;
        s[3] = s[2], s[2] = s[1], s[1] = s[0], s[0] = one + two;
    }
    for (int i = 0; i < 8; i++) state[i] += s[i];
}

static void sha256(const uint8_t *data, size_t length, uint8_t digest[32]) {
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t tail[128] = {0};
    size_t whole = length / 64 * 64, rest = length - whole, padded = rest < 56 ? 64 : 128;
    for (size_t at = 0; at < whole; at += 64) sha256_block(state, data + at);
    memcpy(tail, data + whole, rest);
    tail[rest] = 0x80;
    for (int i = 0; i < 8; i++) tail[padded - 1 - i] = (uint8_t)((uint64_t)length * 8 >> (8 * i));
    for (size_t at = 0; at < padded; at += 64) sha256_block(state, tail + at);
    for (int i = 0; i < 32; i++) digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

/* ---- LZ77: greedy, one hash of four bytes, 64 KiB window ------------------------------------------------------- */

enum { HASH_BITS = 15, MATCH_MIN = 4, MATCH_MAX = 259 };

static inline uint32_t four(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* A token is 0, byte (as it is) or 1, length - 4, distance low, distance high. `out` has room for 2 * length. */
static size_t compress(const uint8_t *in, size_t length, uint8_t *out) {
    static uint32_t last[1 << HASH_BITS]; /* where these four bytes were last seen, + 1 */
    memset(last, 0, sizeof last);
    size_t to = 0;
    for (size_t at = 0; at < length;) {
        size_t match = 0, distance = 0;
        if (at + MATCH_MIN <= length) {
            uint32_t *slot = &last[four(in + at) * 2654435761u >> (32 - HASH_BITS)];
            size_t seen = *slot;
            *slot = (uint32_t)at + 1;
            distance = at + 1 - seen;
            if (seen && distance < 65536)
                while (match < MATCH_MAX && at + match < length && in[seen - 1 + match] == in[at + match]) match++;
        }
        if (match >= MATCH_MIN) {
            out[to++] = 1, out[to++] = (uint8_t)(match - MATCH_MIN);
            out[to++] = (uint8_t)distance, out[to++] = (uint8_t)(distance >> 8);
            at += match;
        } else {
            out[to++] = 0, out[to++] = in[at++];
        }
    }
    return to;
}

static size_t expand(const uint8_t *in, size_t length, uint8_t *out) {
    size_t to = 0;
    for (size_t at = 0; at < length;) {
        if (in[at] == 0) {
            out[to++] = in[at + 1], at += 2;
            continue;
        }
        size_t count = in[at + 1] + (size_t)MATCH_MIN, distance = in[at + 2] | (size_t)in[at + 3] << 8;
        for (; count > 0; count--, to++) out[to] = out[to - distance];
        at += 4;
    }
    return to;
}

/* ---- quicksort ------------------------------------------------------------------------------------------------- */

/* Sorts by the bits of a key that are left after `shift`. Hoare's partition: the pivot is the lower middle, so that the
 * left part is never all of it. */
static void sort(uint64_t *a, long count, int shift) {
    while (count > 1) {
        uint64_t pivot = a[(count - 1) / 2] << shift;
        long i = -1, j = count;
        for (;;) {
            do i++; while (a[i] << shift < pivot);
            do j--; while (a[j] << shift > pivot);
            if (i >= j) break;
            uint64_t swap = a[i];
            a[i] = a[j], a[j] = swap;
        }
        sort(a, j + 1, shift);
        a += j + 1, count -= j + 1;
    }
}

/* ---- the work -------------------------------------------------------------------------------------------------- */

enum { TEXT = 1 << 20, KEYS = 1 << 18 };

static uint8_t text[TEXT], packed[2 * TEXT], unpacked[TEXT];
static uint64_t keys[KEYS];

static uint64_t chance = 0x9e3779b97f4a7c15u;

/* The next number of Marsaglia's xorshift. */
static uint64_t next(void) {
    chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
    return chance;
}

/* Text that compresses as prose does: words of a small vocabulary. */
static void make_text(void) {
    for (size_t at = 0; at < TEXT;) {
        uint64_t chosen = next();
        uint32_t word = (uint32_t)(chosen % 53) * (uint32_t)(chosen >> 40 & 1);
        for (uint32_t letters = 2 + word % 7; letters > 0 && at < TEXT; letters--, word = word * 31 + 7)
            text[at++] = 'a' + word / 5 % 26;
        if (at < TEXT) text[at++] = ' ';
    }
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 4;
    uint8_t digest[32];
    for (int round = 0; round < rounds; round++) {
        make_text();
        size_t size = compress(text, TEXT, packed);
        if (expand(packed, size, unpacked) != TEXT || memcmp(text, unpacked, TEXT) != 0) {
            fputs("the compressor lost something\n", stderr);
            return 1;
        }
        for (int i = 0; i < KEYS; i++) keys[i] = next();
        sort(keys, KEYS, 32);
        sort(keys, KEYS, 0);
        sha256(packed, size, digest);
        sha256((uint8_t *)keys, sizeof keys, unpacked);
        for (int i = 0; i < 32; i++) digest[i] ^= unpacked[i];
        sha256(text, TEXT, unpacked);
        for (int i = 0; i < 32; i++) digest[i] ^= unpacked[i], printf("%02x", digest[i]);
        printf(" %zu\n", size);
        chance ^= digest[0];
    }
    return 0;
}
