/* What a stock client says and hears: y-websocket (y-protocols/sync.js) and Hocuspocus 4 (packages/provider). */
#include "loadgen.h"

#include <stdio.h>
#include <string.h>

enum { SYNC = 0, AWARENESS = 1, AUTH = 2, SYNC_REPLY = 4, SYNC_STATUS = 8, HOCUSPOCUS_PING = 9, HOCUSPOCUS_PONG = 10 };
enum { STEP1 = 0, STEP2 = 1, UPDATE = 2, AUTH_TOKEN = 0, AUTH_DENIED = 1 };

static const uint8_t EMPTY_STATE_VECTOR[] = {0}, EMPTY_UPDATE[] = {0, 0};

static struct script script;
static bool hocuspocus;
static struct bytes message;

static void begin(struct connection *c) {
    message.len = 0;
    if (hocuspocus) {
        bytes_uint(&message, strlen(c->document));
        bytes_add(&message, c->document, strlen(c->document));
    }
}

static void add_buffer(const void *data, size_t n) {
    bytes_uint(&message, n);
    bytes_add(&message, data, n);
}

static void send_sync(struct connection *c, uint8_t step, const uint8_t *data, size_t n) {
    begin(c);
    bytes_byte(&message, SYNC);
    bytes_byte(&message, step);
    add_buffer(data, n);
    net_send(c, message.at, message.len);
}

void session_update(struct connection *c, const uint8_t *update, size_t n) {
    send_sync(c, UPDATE, update, n);
}

void session_awareness(struct connection *c, const uint8_t *update, size_t n) {
    begin(c);
    bytes_byte(&message, AWARENESS);
    add_buffer(update, n);
    net_send(c, message.at, message.len);
}

static void opened(struct connection *c) {
    if (hocuspocus) {
        begin(c);
        bytes_byte(&message, AUTH);
        bytes_byte(&message, AUTH_TOKEN);
        add_buffer("", 0);
        add_buffer("4.7.0", 5);
        net_send(c, message.at, message.len);
    }
    send_sync(c, STEP1, EMPTY_STATE_VECTOR, sizeof EMPTY_STATE_VECTOR);
}

static void sync_message(struct connection *c, const uint8_t *at, const uint8_t *end) {
    uint64_t step, n;
    if (!read_uint(&at, end, &step) || !read_uint(&at, end, &n) || n > (uint64_t)(end - at))
        die("a sync message of %s was cut short", c->document);
    bool before = c->got_state && c->gave_state;
    if (step == STEP1) {
        if (c->upload.len)
            send_sync(c, STEP2, c->upload.at, c->upload.len);
        else
            send_sync(c, STEP2, EMPTY_UPDATE, sizeof EMPTY_UPDATE);
        c->handshake_acks++;
        c->gave_state = true;
    } else {
        if (script.update)
            script.update(c, at, n);
        c->got_state = c->got_state || step == STEP2;
    }
    if (!before && c->got_state && c->gave_state && script.synced)
        script.synced(c);
}

static void status(struct connection *c, const uint8_t *at, const uint8_t *end) {
    uint64_t taken = 0;
    if (c->handshake_acks)
        c->handshake_acks--;
    else if (read_uint(&at, end, &taken) && taken && script.acknowledged)
        script.acknowledged(c);
}

static void frame(struct connection *c, const uint8_t *at, size_t size) {
    const uint8_t *end = at + size;
    uint64_t n, type, kind;
    if (hocuspocus) {
        if (size == 1 && *at == HOCUSPOCUS_PING) {
            uint8_t pong = HOCUSPOCUS_PONG;
            net_send(c, &pong, 1);
            return;
        }
        if (!read_uint(&at, end, &n) || n > (uint64_t)(end - at))
            die("a message of %s has no address", c->document);
        at += n;
    }
    if (!read_uint(&at, end, &type))
        return;
    if (type == SYNC || type == SYNC_REPLY)
        sync_message(c, at, end);
    else if (type == SYNC_STATUS && hocuspocus)
        status(c, at, end);
    else if (type == AWARENESS && script.awareness && read_uint(&at, end, &n) && n <= (uint64_t)(end - at))
        script.awareness(c, at, n);
    else if (type == AUTH && read_uint(&at, end, &kind) && kind == AUTH_DENIED)
        die("%s: permission denied", c->document);
}

static void closed(struct connection *c) {
    if (script.closed)
        script.closed(c);
}

void session_start(struct script s) {
    script = s;
    hocuspocus = !strcmp(text_option("dialect", "y-websocket"), "hocuspocus");
    net = (struct net_handlers){.opened = opened, .frame = frame, .closed = closed};
    int port = (int)number_option("port", 0);
    net_start(port, (int)number_option("other_port", port));
}

void session_connect(struct connection *c, int document) {
    char path[256];
    snprintf(c->document, sizeof c->document, "%s-%05d", text_option("name", "bench"), document);
    snprintf(path, sizeof path, "%s%s", text_option("path", "/"), hocuspocus ? "" : c->document);
    net_connect(c, path);
}
