/* What arrived, what is missing, and how long it took. Knows nothing of sockets. */
#ifndef LEDGER_H
#define LEDGER_H

#include <stdint.h>

/* A message's body begins with four fixed fields of decimal digits:
 *   marker    8  '@' and the number of the step, so that what an earlier step left behind is not counted in this one
 *   publisher 8
 *   sequence  8  from 0, counted by each publisher for itself
 *   due      16  when it should have been sent, in ns since the client started
 */
enum { MARKER_SIZE = 8, PUBLISHER_AT = 8, SEQUENCE_AT = 16, DUE_AT = 24, BODY_MIN = 40 };

/* What one connection got of one publisher. */
struct stream {
    uint32_t next;     /* the sequence that is due */
    uint32_t reserved;
    uint64_t seen;     /* bit i: sequence next - 1 - i has arrived */
};

struct counts {
    uint64_t delivered; /* each message once for each connection */
    uint64_t duplicates;
    uint64_t disordered; /* arrived behind a later one of the same publisher */
};

void stream_take_unexpected(struct stream *stream, uint32_t sequence, struct counts *counts);

static inline void stream_take(struct stream *stream, uint32_t sequence, struct counts *counts)
{
    if (__builtin_expect(sequence == stream->next, 1)) {
        stream->next++;
        stream->seen = stream->seen << 1 | 1;
        counts->delivered++;
    } else {
        stream_take_unexpected(stream, sequence, counts);
    }
}

/* Eight decimal digits at once; the bytes are taken as a little-endian number. */
static inline uint32_t read_digits(const char *text)
{
    uint64_t digits;
    __builtin_memcpy(&digits, text, 8);
    digits -= 0x3030303030303030u;
    digits = digits * 10 + (digits >> 8);
    return (uint32_t)(((digits & 0x000000FF000000FFu) * 0x000F424000000064u +
                       (digits >> 16 & 0x000000FF000000FFu) * 0x0000271000000001u) >> 32);
}

static inline uint64_t read_digits16(const char *text)
{
    return (uint64_t)read_digits(text) * 100000000u + read_digits(text + 8);
}

void write_digits(char *text, int count, uint64_t number);

/* Times in buckets of less than 1 % of their size; the unit is 1,024 ns. */
enum { SUB_BITS = 7, BUCKETS = (1 << SUB_BITS) * 40 };

struct histogram {
    uint64_t total;
    uint64_t max_ns;
    uint64_t bucket[BUCKETS];
};

static inline void histogram_add(struct histogram *histogram, uint64_t ns)
{
    uint64_t units = ns >> 10;
    int magnitude = 63 - __builtin_clzll(units | 1);
    int shift = magnitude > SUB_BITS ? magnitude - SUB_BITS : 0;
    uint64_t bucket = ((uint64_t)shift << SUB_BITS) + (units >> shift);
    histogram->bucket[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    histogram->total++;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

/* The time in ms that the given share of the times stays below; 0 for an empty histogram. */
double histogram_quantile_ms(const struct histogram *histogram, double share);

#endif
