/* goals_internal.h - what goals.c (who judges documents) and goals_kept.c (who keeps them) share. */
#ifndef AGENT_GOALS_INTERNAL_H
#define AGENT_GOALS_INTERNAL_H

#include "agent.h"
#include "base/list.h"
#include "base/map.h"
#include "goals.h"

/* One service: the goal in force, and the newest generation ever accepted. */
struct kept {
    char *service;
    uint64_t floor;
    struct hash digest; /* of the goal document of that generation */
    struct goal *goal;  /* NULL: none in force (removed, or could not be read again) */
    char *refusal;      /* the last one since the last accepted goal, or NULL */
};

struct known_release {
    struct list node;
    struct release *release;
    struct bytes doc;
};

struct goals {
    char *root, *machine, *region;
    struct public_key pin;
    struct label labels[AGENT_LABELS_MAX + 2];
    size_t nlabels;
    struct trust *trust;
    struct hash trust_digest;
    struct map services; /* struct kept */
    struct list releases;
    size_t nreleases;
    int64_t newest_signed_ms;
    uint64_t refused[REFUSED_END];
};

/* goals_kept.c */
struct kept *goals_kept(const struct goals *g, const char *service); /* NULL: never heard of */
struct kept *goals_kept_make(struct goals *g, const char *service);
char *goals_doc_path(const struct goals *g, const char *service); /* gives */
MUST_CHECK int goals_load(struct goals *g, struct err *err);      /* trust, floors, goals */
void goals_load_goals(struct goals *g); /* those that hold by the trust document of now */
MUST_CHECK int goals_keep_trust(struct goals *g, const struct public_key *signer, const void *data,
                                size_t len, struct err *err);
MUST_CHECK int goals_keep_floor(const struct goals *g, const char *service, uint64_t floor,
                                const struct hash *digest, struct err *err);
void goals_note_signed_time(struct goals *g, int64_t issued_ms);
/* What file_publish() writes beside, left by a kill. No service may have such a name. */
bool goals_is_leftover(const char *name);

#endif
