/* Log-linear buckets: 64 to each power of two. */
#include "loadgen.h"

enum { SUB_BITS = 6, BUCKETS = 64 << SUB_BITS };

static uint64_t counts[BUCKETS], total, largest;

void latency_add(uint64_t ns, uint64_t count) {
    int shift = 63 - __builtin_clzll(ns | (1u << SUB_BITS)) - SUB_BITS;
    counts[((size_t)shift << SUB_BITS) + (ns >> shift)] += count;
    total += count;
    if (ns > largest)
        largest = ns;
}

double latency_ms(double quantile) {
    uint64_t rank = (uint64_t)(quantile * (double)total), below = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        below += counts[i];
        if (below > rank) {
            size_t shift = i >> SUB_BITS ? (i >> SUB_BITS) - 1 : 0;
            return (double)((i - (shift << SUB_BITS)) << shift) / 1e6;
        }
    }
    return (double)largest / 1e6;
}

double latency_max_ms(void) {
    return (double)largest / 1e6;
}

uint64_t latency_count(void) {
    return total;
}
