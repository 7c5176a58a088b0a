/* Yjs update format, version 1 (yjs/src/utils/updates.js, yjs/src/structs): as much of it as text documents use. */
#include "loadgen.h"

#include <string.h>

enum { GC = 0, DELETED = 1, STRING = 4, SKIP = 10, PARENT_SUB = 0x20, RIGHT_ORIGIN = 0x40, ORIGIN = 0x80 };
enum { NOTHING = UINT32_MAX, RUN = 8 };

static void id(struct bytes *b, uint32_t client, uint32_t clock) {
    bytes_uint(b, client);
    bytes_uint(b, clock);
}

/* One character an update, in runs of about RUN with a jump of the cursor between them. Appending without end is
 * not typing: it makes one item that Yjs and yrs copy at every edit. */
struct stream stream_make(uint32_t client, uint32_t count) {
    struct stream stream = {.at = allocate(count + 1, sizeof(uint32_t)), .count = count};
    uint32_t *right = allocate(count, sizeof(uint32_t)); /* the character to the right of each, in the author's view */
    uint32_t random = client * 2654435761u | 1;
    struct bytes *b = &stream.bytes;
    for (uint32_t clock = 0; clock < count; clock++) {
        stream.at[clock] = (uint32_t)b->len;
        random ^= random << 13, random ^= random >> 17, random ^= random << 5;
        bytes_byte(b, 1);
        bytes_byte(b, 1);
        id(b, client, clock);
        if (clock == 0) {
            bytes_byte(b, STRING);
            bytes_byte(b, 1);
            bytes_byte(b, 4);
            bytes_add(b, "text", 4);
            right[0] = NOTHING;
        } else {
            uint32_t left = random % RUN ? clock - 1 : (random >> 3) % clock;
            bytes_byte(b, (uint8_t)(STRING | ORIGIN | (right[left] != NOTHING ? RIGHT_ORIGIN : 0)));
            id(b, client, left);
            if (right[left] != NOTHING)
                id(b, client, right[left]);
            right[clock] = right[left];
            right[left] = clock;
        }
        bytes_byte(b, 1);
        bytes_byte(b, (uint8_t)('a' + random % 26));
        bytes_byte(b, 0); /* an empty delete set */
    }
    stream.at[count] = (uint32_t)b->len;
    return stream;
}

static bool skip_id(const uint8_t **at, const uint8_t *end) {
    uint64_t client, clock;
    return read_uint(at, end, &client) && read_uint(at, end, &clock);
}

/* A string's length in UTF-16 units, which is what Yjs counts in. */
static bool read_string(const uint8_t **at, const uint8_t *end, uint64_t *units) {
    uint64_t n;
    if (!read_uint(at, end, &n) || n > (uint64_t)(end - *at))
        return false;
    *units = 0;
    for (uint64_t i = 0; i < n; i++)
        *units += ((*at)[i] & 0xc0) != 0x80 ? 1 + ((*at)[i] >= 0xf0) : 0;
    *at += n;
    return true;
}

static bool read_struct(const uint8_t **at, const uint8_t *end, uint8_t info, uint64_t *length) {
    uint8_t content = info & 0x1f;
    if (content == GC || content == SKIP)
        return read_uint(at, end, length);
    if (info & ORIGIN && !skip_id(at, end))
        return false;
    if (info & RIGHT_ORIGIN && !skip_id(at, end))
        return false;
    if (!(info & (ORIGIN | RIGHT_ORIGIN))) {
        uint64_t named, units;
        if (!read_uint(at, end, &named) || !(named ? read_string(at, end, &units) : skip_id(at, end)))
            return false;
        if (info & PARENT_SUB && !read_string(at, end, &units))
            return false;
    }
    if (content == DELETED)
        return read_uint(at, end, length);
    return content == STRING && read_string(at, end, length);
}

bool update_walk(const uint8_t *update, size_t n, range_handler *range, void *context) {
    const uint8_t *at = update, *end = update + n;
    uint64_t clients, structs, client, clock, length;
    if (!read_uint(&at, end, &clients))
        return false;
    while (clients--) {
        if (!read_uint(&at, end, &structs) || !read_uint(&at, end, &client) || !read_uint(&at, end, &clock))
            return false;
        while (structs--) {
            if (at == end)
                return false;
            uint8_t info = *at++;
            if (!read_struct(&at, end, info, &length))
                return false;
            if ((info & 0x1f) != SKIP)
                range(context, client, clock, length);
            clock += length;
        }
    }
    return true;
}
