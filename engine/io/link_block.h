/* link_block.h - the bytes of one large message (LEAF, OBJECT) on their way without being copied.
 *
 *     struct link_block *b = link_block_new(l, len);      to send: fill link_block_bytes(b), in any thread,
 *     struct msg_leaf m = { …, { link_block_bytes(b), len } };
 *     link_send_block(l, MSG_LEAF, &m, b, &err)           0: the link has taken b; else it is still yours
 *
 *     struct link_block *b = link_take_block(l, msg->bytes.data);      received: inside message(). The bytes
 *     … link_block_bytes(b) …                              stay where they are until
 *     link_block_free(b);
 *
 *     struct link_block *s = link_block_share(b);          to send the same message to others, too: the bytes
 *     link_send_block(l, MSG_LEAF, &m, s, &err)             are there until all that share them are freed
 *
 * Such a message goes in parts, and messages that are sent after it by link_send() come before it if they fit in
 * between.
 *
 * A block has one owner. Made, shared, sent, taken and freed on the loop's thread only; read and filled anywhere,
 * but not filled once it is shared; and while one that shares its bytes is being sent, read on the loop's thread
 * only, between whose turns the bytes are as they were.
 * Blocks may outlive links. Freed ones are kept, LINK_BLOCKS_KEPT of them for each identity, and used again. */
#ifndef IO_LINK_BLOCK_H
#define IO_LINK_BLOCK_H

#include "io/link.h"

enum {
    LINK_BLOCKS_KEPT = 16,
    LINK_BLOCK_MIN = 32 << 10, /* frames of less are collected in the link's own buffer */
};

struct link_block;

/* For a message of l whose last field has len bytes, at most LEAF_BYTES. Not cleared. */
struct link_block *link_block_new(struct link *l, size_t len);
unsigned char *link_block_bytes(struct link_block *b);
/* Another block with the bytes of b, for the same message: one that b was taken from, or that was made of it. */
struct link_block *link_block_share(struct link_block *b);
void link_block_free(struct link_block *b); /* NULL is fine */

/* As link_send(), for a message whose last field is `bytes` and lies at link_block_bytes(b). Takes b if it
 * returns 0. */
MUST_CHECK int link_send_block(struct link *l, enum msg_type type, const void *msg,
                               struct link_block *b, struct err *err);

/* Inside message() only, once: gives the block in which the message lies, whose last field begins at bytes; or
 * NULL if it was small: its bytes are gone then when message() returns. */
struct link_block *link_take_block(struct link *l, const unsigned char *bytes);

#endif
