/* agent_internal.h - what agent.c (life and death of the process) and agent_talk.c (the conversation
 * with the region node) share. */
#ifndef AGENT_AGENT_INTERNAL_H
#define AGENT_AGENT_INTERNAL_H

#include "agent.h"
#include "base/map.h"
#include "goals.h"
#include "io/proc.h"
#include "peers.h"
#include "service.h"
#include "uplink.h"

enum { REGION_FILE_MAX = 256 };

enum stop_state { STOP_NONE = 0, STOP_SERVICES, STOP_LINKS, STOP_DONE };

struct agent {
    struct agent_options o;
    char *root, *region, *listen_host;
    int lock_fd;
    struct loop *loop;
    struct work_pool *pool;
    struct http_client *http;
    struct link_identity *self;
    struct exchange *exchange;
    struct goals *goals;
    struct reports *reports;
    struct slots *slots;
    struct peers *peers;
    struct uplink *uplink;
    struct map services; /* struct service */
    struct service_host host;
    struct list early;
    size_t nearly;
    struct map told;    /* service -> what this link has been told of its progress */
    uint64_t link_rate; /* bytes a second of the interface towards the region node; 0: not known */
    struct timer progress, tick, give_up;
    struct watch parent;
    struct proc_watch guard;
    enum stop_state stop;
    int links_left;
    unsigned ticks;
};

/* agent.c */
struct service *agent_service(const struct agent *a, const char *name); /* NULL: none */
struct service *agent_make_service(struct agent *a, const char *name);  /* NULL: logged */
void agent_poke_all(struct agent *a);
bool agent_uses_pack(struct agent *a, const struct hash *pack);

/* agent_talk.c */
void agent_talk(struct agent *a); /* starts to connect */
void agent_say_progress(struct agent *a);
void agent_hush(struct agent *a); /* frees what the conversation has kept */
/* As link_send(); -ERR_UNREACHABLE while there is no link. */
int agent_send(void *ctx, enum msg_type type, const void *msg, struct err *err);
void agent_join(void *ctx, const struct hash *pack, const struct bytes *bitmap);
void agent_leave(void *ctx, const struct hash *pack);

#endif
