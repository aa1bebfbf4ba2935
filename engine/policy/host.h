/* host.h - what parent and child of a policy host say to each other, in frames of io/channel.h with
 * compact JSON:
 *
 *     child  -> parent   HOST_READY, once, when it has started
 *     parent -> child    {"bundle":{…},"question":TEXT,"input":…}
 *     child  -> parent   {"ok":ANSWER} or {"error":TEXT} */
#ifndef POLICY_HOST_H
#define POLICY_HOST_H

#include "policy/policy.h"

enum { HOST_FRAME_BYTES = 16 << 20 };

#define HOST_READY "{\"ready\":true}"

/* Puts "?" in the place of bytes that are not UTF-8: an error may quote such bytes of a policy, or
 * may have been cut inside a character. Returns text. */
char *host_clean_text(char *text);

#endif
