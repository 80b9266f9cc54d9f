#include "ledger.h"

void stream_take_unexpected(struct stream *stream, uint32_t sequence, struct counts *counts)
{
    if (sequence > stream->next) { /* what is skipped is missing until it arrives */
        uint32_t ahead = sequence - stream->next + 1;
        stream->seen = ahead < 64 ? stream->seen << ahead | 1 : 1;
        stream->next = sequence + 1;
        counts->delivered++;
        return;
    }
    uint32_t behind = stream->next - 1 - sequence;
    if (behind < 64 && !(stream->seen >> behind & 1)) {
        stream->seen |= 1ull << behind;
        counts->delivered++;
        counts->disordered++;
    } else {
        counts->duplicates++; /* or later than 64 others: then it is missing as well */
    }
}

void write_digits(char *text, int count, uint64_t number)
{
    while (count--) {
        text[count] = (char)('0' + number % 10);
        number /= 10;
    }
}

static double upper_edge_ms(int bucket)
{
    int shift = bucket >> SUB_BITS;
    uint64_t units = (uint64_t)bucket;
    if (shift > 0) {
        shift--;
        units = ((uint64_t)bucket - ((uint64_t)shift << SUB_BITS)) << shift;
    }
    return (double)((units + (1ull << shift)) << 10) / 1e6;
}

double histogram_quantile_ms(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)((double)histogram->total * share), passed = 0;
    if (histogram->total == 0)
        return 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        passed += histogram->bucket[bucket];
        if (passed > wanted) {
            double edge = upper_edge_ms(bucket), max = (double)histogram->max_ns / 1e6;
            return edge < max ? edge : max;
        }
    }
    return (double)histogram->max_ns / 1e6;
}
