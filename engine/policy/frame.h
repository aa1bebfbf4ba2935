/* frame.h - what parent and child of a policy host send each other: a length of 4 bytes, little-
 * endian, then as many bytes of compact JSON.
 *
 *     child  -> parent   {"ready":true}                                   once, when it has started
 *     parent -> child    {"bundle":{…},"question":TEXT,"input":…}
 *     child  -> parent   {"ok":ANSWER} or {"error":TEXT} */
#ifndef POLICY_FRAME_H
#define POLICY_FRAME_H

#include "base/buf.h"
#include "policy/policy.h"

enum { FRAME_HEAD_BYTES = 4, FRAME_MAX_BYTES = 8 << 20 };

static inline void frame_head(unsigned char head[FRAME_HEAD_BYTES], size_t len)
{
    for (int i = 0; i < FRAME_HEAD_BYTES; i++)
        head[i] = (unsigned char)(len >> (8 * i));
}

static inline size_t frame_len(const unsigned char head[FRAME_HEAD_BYTES])
{
    size_t len = 0;
    for (int i = 0; i < FRAME_HEAD_BYTES; i++)
        len |= (size_t)head[i] << (8 * i);
    return len;
}

#endif
