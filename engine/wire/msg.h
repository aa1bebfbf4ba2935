/* msg.h - the messages of link, our protocol between control plane, region nodes and machines.
 *
 * A frame is {u32 length of what follows, u8 type, payload}; the payload is the message's codec
 * (msg.c holds the tables). Largest frame: FRAME_MAX. Link itself handles HELLO, PING, PONG, PART and
 * BYE; everything else goes to its user, decoded.
 *
 * A frame that many bytes make (LEAF, OBJECT) travels in PARTs: the bytes of the PARTs of a link, one
 * after the other, are such frames. Other frames may stand between two PARTs, so that a WANT does not
 * wait behind a LEAF. The first PART of a frame has at least the length and the type of it, each but the last
 * at least PART_MIN_BYTES (what a PART costs is paid for by its bytes), no PART goes beyond its frame, and
 * link's own messages do not travel so.
 *
 * Who says what (C control plane, R region node, A agent):
 *
 *   C -> R  DOC            a signed document to keep and relay: trust, release, goal
 *   C -> R  REPLICATE      fetch these artifacts' packs from the origin store and seed them
 *   C -> R  FLEET_ASK      how many machines match, by variant         R -> C  FLEET
 *   C -> R  QUANTILE_ASK   n-th smallest wave hash among the matching  R -> C  QUANTILE
 *   C -> R  PLAN           the waves of a deployment, to count by
 *   R -> C  COUNTS         of a deployment, by its plan, and of its swarm: on change, <= 5/s
 *   R -> C  RUNS           how many machines run which release of a service: on change, <= 1/s
 *   R -> C  REPLICA        one artifact: how much has arrived, verified or not
 *   A -> R  MACHINE        labels, peer port, what runs: the first message, again on change
 *   R -> A  DOC            trust, release, goal documents that concern this machine
 *   R -> A  SOURCES        which packs carry an artifact
 *   A -> R  PROGRESS       bytes staged so far, from seed and from peers, and how well they came
 *                          (<= 1/s)
 *   A -> R  REPORT         staged; healthy or not; what runs
 *   A -> R  SLOT_ASK, SLOT_FREE    may I restart the service now?      R -> A  SLOT
 *   A -> R  JOIN, LEAVE    I want (or have) this pack                  R -> A  PEERS
 *   R,A <-> A  BITMAP, HAVE, WANT, CANCEL, LEAF, REFUSE   pieces of packs, between any two
 *   R,A <-> A  OBJECT_ASK, OBJECT                   manifests and pack indexes, named by their
 * digest
 */
#ifndef WIRE_MSG_H
#define WIRE_MSG_H

#include "base/merkle.h"
#include "wire/codec.h"

enum {
    LINK_VERSION = 2,
    FRAME_MAX = 512 * 1024,                   /* payload and type */
    FRAME_HEAD_BYTES = 5,                     /* length and type */
    PART_HEAD_BYTES = 9,                      /* of a PART: with the length of its bytes */
    PART_MAX_BYTES = 16384 - PART_HEAD_BYTES, /* the whole PART is one TLS record */
    PART_MIN_BYTES = 4096,                    /* of one that is not its message's last */
    LEAF_BYTES = MERKLE_LEAF_BYTES,           /* the unit of a WANT and a LEAF, see wire/pack.h */
    OBJECT_CHUNK = 256 * 1024,                /* the most that one OBJECT carries */
    NAME_MAX_BYTES = 128,  /* service, region, machine, deployment, variant, label key */
    LABEL_MAX_BYTES = 256, /* a label's value */
    REASON_MAX_BYTES = 1024,
    LABELS_MAX = 64,
    SERVICES_MAX = 256,         /* of one machine */
    DOC_MAX_BYTES = 256 * 1024, /* a signed document */
    LEAVES_MAX = 1 << 20,       /* of one pack: 256 GiB */
    PEERS_MAX = 64,
    WAVES_MAX = 256,
    RULES_MAX = 1024,
    PACKS_MAX = 64,
    ARTIFACTS_MAX = 64,
    FAILURES_MAX = 64,
    SECRET_BYTES = 16,          /* of who may enrol */
    CERTIFICATE_MAX = 8 * 1024, /* or a request for one */
    TALLIES_MAX = 256,          /* variants that one FLEET counts */
    HAVES_MAX = 4096,           /* leaves in one HAVE */
    RUNS_MAX = 256,             /* releases in one RUNS */
    BANNED_MAX = 8,             /* machines that one PROGRESS names */
    OFFENDERS_MAX = 16,         /* machines that one COUNTS names */
    BUCKETS_MAX = 2048,         /* of a spread, see swarm/spread.h */
};

enum link_role { ROLE_NONE = 0, ROLE_CONTROL, ROLE_REGION, ROLE_AGENT, ROLE_WORKER };

enum msg_type {
    MSG_NONE = 0,
    /* link's own */
    MSG_HELLO = 1,
    MSG_PING,
    MSG_PONG,
    MSG_BYE,
    MSG_ENROL,    /* before HELLO, by one that has no certificate yet */
    MSG_ENROLLED, /* its certificate */
    MSG_PART,     /* the next bytes of a large frame */
    /* documents */
    MSG_DOC = 16,
    /* control plane and region node */
    MSG_REPLICATE = 32,
    MSG_REPLICA,
    MSG_FLEET_ASK,
    MSG_FLEET,
    MSG_QUANTILE_ASK,
    MSG_QUANTILE,
    MSG_PLAN,
    MSG_COUNTS,
    MSG_RUNS,
    /* region node and agent */
    MSG_MACHINE = 64,
    MSG_SOURCES,
    MSG_PROGRESS,
    MSG_REPORT,
    MSG_SLOT_ASK,
    MSG_SLOT_FREE,
    MSG_SLOT,
    MSG_JOIN,
    MSG_LEAVE,
    MSG_PEERS,
    /* swarm: any two that hold or want a pack */
    MSG_BITMAP = 96,
    MSG_HAVE,
    MSG_WANT,
    MSG_LEAF,
    MSG_REFUSE,
    MSG_OBJECT_ASK,
    MSG_OBJECT,
    MSG_CANCEL,
    MSG_TYPE_END = 128,
};

struct msg_hello {
    uint16_t version;
    char *cluster;
    uint8_t role; /* enum link_role; must be what the certificate says */
    char *id;     /* likewise */
    char *region; /* "" for the control plane */
};

struct msg_bye {
    uint16_t code; /* enum err_code of the sender's reason */
    char *reason;
};

/* A request for a certificate, and the right to one. Sent by who has checked the other side's CA. */
struct msg_enrol {
    struct bytes secret;  /* SECRET_BYTES */
    struct bytes request; /* PKCS #10, DER: proves that it has the key, on this connection */
};

struct msg_enrolled {
    struct bytes ca, certificate; /* PEM */
};

struct msg_part {
    struct bytes bytes; /* 1 to PART_MAX_BYTES */
};

enum doc_kind { DOC_NONE = 0, DOC_TRUST, DOC_RELEASE, DOC_GOAL };

struct msg_doc {
    uint8_t kind;       /* enum doc_kind */
    struct bytes bytes; /* the signed document, exactly as published (wire/doc.h) */
};

struct msg_artifact {
    char *variant;
    struct hash artifact; /* SHA-256 of the manifest */
    struct list_of packs; /* struct msg_pack: the full pack first, then deltas */
};

struct msg_pack {
    struct hash pack;
};

struct msg_replicate {
    char *deployment;
    struct list_of artifacts; /* struct msg_artifact */
};

enum replica_state { REPLICA_NONE = 0, REPLICA_FETCHING, REPLICA_VERIFIED, REPLICA_FAILED };

struct msg_replica {
    struct hash artifact;
    uint8_t state;  /* enum replica_state */
    uint64_t bytes; /* arrived so far */
    uint64_t total;
    uint64_t origin_bytes; /* read from the origin store for it */
    char *reason;          /* of a failure */
};

struct msg_fleet_ask {
    uint64_t ask;
    char *select;  /* JSON predicate, wire/predicate.h */
    char *variant; /* JSON variant rule, wire/doc.h */
};

struct msg_tally {
    char *name;
    uint64_t count;
};

struct msg_fleet {
    uint64_t ask;
    uint64_t total;
    uint64_t reachable;
    struct list_of variants; /* struct msg_tally; "" counts machines without a variant */
};

struct msg_number {
    uint64_t value;
};

struct msg_quantile_ask {
    uint64_t ask;
    char *deployment;     /* hashed with each machine, wire/member.h */
    char *where;          /* JSON predicate, already and-ed with select */
    struct list_of ranks; /* struct msg_number: 1-based n */
};

struct msg_quantile {
    uint64_t ask;
    uint64_t matching;         /* machines that match now */
    struct list_of thresholds; /* struct msg_number: hash of the n-th + 1, so that `hash < t` takes
                                  n; UINT64_MAX if n >= matching */
};

struct msg_rule {
    uint32_t wave;      /* 0-based */
    char *where;        /* JSON predicate */
    uint64_t threshold; /* in the wave if wave_hash() < threshold */
};

struct msg_plan {
    char *deployment;
    char *service;
    char *select;  /* JSON predicate */
    char *variant; /* JSON variant rule */
    struct hash release;
    struct hash rollback_to; /* zero if none */
    uint32_t waves;
    struct list_of
        rules; /* struct msg_rule in wave order: a machine is in the first that takes it */
};

/* What a region node counts; each machine is in one wave. A machine is reachable if its link is up
 * (or was, less than 30 s ago). healthy, bad: fresh reports of the plan's release after activation.
 */
struct msg_wave_counts {
    uint32_t wave;
    uint64_t total, reachable, staged, activated, healthy, bad, unknown, rolled_back, previous;
    /* previous: reports rollback_to healthy. rolled_back: does so, or stopped where there is none,
     * after having moved. */
};

struct msg_failure {
    char *machine;
    char *phase; /* "stage", "activate", "health", "rollback" */
    char *reason;
};

/* A bucket of a spread (swarm/spread.h) that is not empty. */
struct msg_bucket {
    uint16_t index;
    uint64_t count;
};

/* What a region node has sent of a pack since the deployment's plan came. */
struct msg_pack_sent {
    struct hash pack;
    uint64_t bytes, sent_bytes; /* its size; leaves that went out, those sent again too */
};

struct msg_offender {
    char *machine;
    uint64_t by; /* machines that have banned it */
};

/* What the machines of a region tell of their fetches (struct msg_fetch), added up; the meaning of each
 * figure is swarm/figures.h's. */
struct msg_swarm {
    uint64_t machines, done, rated, late, refused;
    uint64_t by_limit, by_link, by_observed; /* of those that are rated */
    struct list_of ratios, times;            /* struct msg_bucket, by index */
    uint64_t ratio_max, ms_max;              /* ratios are thousandths */
    uint64_t near_bytes, far_bytes;
    uint64_t stolen, doubled, useless, bad, edges, stale;
    struct list_of packs;     /* struct msg_pack_sent */
    struct list_of offenders; /* struct msg_offender, most accused first */
};

struct msg_counts {
    char *deployment;
    uint64_t generation; /* of the goal that the reports answer */
    struct list_of
        waves; /* struct msg_wave_counts; the wave number `waves` holds machines in none */
    uint64_t staged_bytes, wanted_bytes, seed_bytes, peer_bytes, saved_bytes;
    uint64_t drift; /* machines that left select and still run the service */
    uint64_t slots_used;
    struct list_of failures; /* struct msg_failure, the first FAILURES_MAX */
    struct list_of swarm;    /* struct msg_swarm: none or one */
};

struct msg_running {
    struct hash release;
    uint64_t machines;
};

/* What the machines that a region node knows run of a service, those that are away too. */
struct msg_runs {
    char *service;
    struct list_of releases; /* struct msg_running, most machines first; empty: none runs it */
};

struct msg_label {
    char *key;
    char *value;
};

struct msg_service {
    char *service;
    struct hash release; /* that runs (or is to run); zero: none */
    uint64_t generation; /* floor */
    uint8_t verdict;     /* enum verdict */
};

struct msg_machine {
    struct list_of labels; /* struct msg_label, sorted by key */
    char *boot;            /* the kernel's boot id */
    char *host;            /* where peers reach it */
    uint16_t port;
    struct list_of services; /* struct msg_service */
};

struct msg_sources {
    char *service;
    struct hash release;
    struct hash artifact;
    struct list_of packs; /* struct msg_pack */
};

/* By what a fetch is measured: bytes a second that the machine could have taken. */
enum rate_from {
    RATE_NONE = 0,
    RATE_LIMIT,    /* a limit that it was given */
    RATE_LINK,     /* what its network interface says */
    RATE_OBSERVED, /* neither is known: the most that came in any one second */
};

struct msg_banned {
    char *machine;
};

/* How well the bytes of a release came: of the attempt that runs or was the last. */
struct msg_fetch {
    uint8_t done;      /* 1: all that was wanted is verified on disk */
    uint8_t rate_from; /* enum rate_from */
    uint64_t rate;
    uint64_t ms, bytes; /* from the first byte asked for to the last one verified, and how many */
    uint64_t near_bytes, far_bytes; /* of these, from machines of its own and of other racks */
    uint32_t stolen, doubled;       /* leaves asked of one more: it was overdue; at the end */
    uint32_t useless, bad;          /* leaves that came although they were here; wrong ones */
    uint32_t edges, stale;          /* machines that the tracker named; of no use when met */
    struct list_of banned;          /* struct msg_banned */
};

struct msg_progress {
    char *service;
    char *deployment;
    struct hash release;
    uint64_t staged_bytes, wanted_bytes, seed_bytes, peer_bytes, saved_bytes;
    struct list_of fetch; /* struct msg_fetch: none or one */
};

/* bad latches: a machine that was bad with a release stays bad with it. */
enum verdict { VERDICT_NONE = 0, VERDICT_GOOD, VERDICT_BAD, VERDICT_UNKNOWN };
enum report_phase {
    PHASE_NONE = 0,
    PHASE_STAGED,    /* the release is on disk, verified */
    PHASE_ACTIVATED, /* switched; health not known yet */
    PHASE_HEALTHY,
    PHASE_FAILED,  /* reason says where: stage, activate, health */
    PHASE_STOPPED, /* action stop or absent was carried out */
};

struct msg_report {
    char *service;
    char *deployment;
    struct hash release;
    uint64_t generation;
    uint64_t activation; /* counts the service's activations on this machine */
    char *boot;
    uint8_t phase;   /* enum report_phase */
    uint8_t verdict; /* enum verdict */
    uint64_t at_ms;  /* wall clock of the machine */
    char *reason;    /* "stage: no space: …" */
};

struct msg_slot_ask {
    char *service;
    char *deployment;
    struct hash release;
    uint64_t generation;
};

struct msg_slot {
    char *service;
    char *deployment;
    uint8_t granted;   /* 0: not now; you are queued and will be told */
    uint32_t lease_ms; /* give it back (SLOT_FREE) or report before then */
};

struct msg_join {
    struct hash pack;
    struct bytes bitmap; /* of leaves, bit i = byte i/8, 1 << i%8; empty: none; full if seeding */
};

struct msg_leave {
    struct hash pack;
};

enum peer_rack { RACK_UNKNOWN = 0, RACK_SAME, RACK_OTHER };

struct msg_peer {
    char *id; /* must be in its certificate */
    char *host;
    uint16_t port;
    uint8_t rack; /* enum peer_rack: is it in the rack of who is told? */
};

struct msg_peers {
    struct hash pack;
    struct list_of peers; /* struct msg_peer: the whole set that this machine should keep */
};

struct msg_bitmap {
    struct hash pack;
    struct bytes bitmap; /* empty: has and wants nothing of it any more */
};

struct msg_have {
    struct hash pack;
    struct list_of leaves; /* struct msg_index */
};

struct msg_index {
    uint32_t index;
};

struct msg_want {
    struct hash pack;
    uint32_t first; /* leaf */
    uint32_t count; /* 1..64, answered by as many LEAFs or one REFUSE for the rest */
};

/* What was wanted is not wanted any more: it came from elsewhere. What is on its way comes. */
struct msg_cancel {
    struct hash pack;
    uint32_t first;
    uint32_t count; /* what of it was not asked for does not matter */
};

struct msg_leaf {
    struct hash pack;
    uint32_t index;
    struct bytes bytes; /* LEAF_BYTES, or what is left in the last one */
};

struct msg_refuse {
    struct hash pack;
    uint32_t first;
    uint32_t count;
    uint16_t code; /* ERR_NOT_FOUND: I do not have it; ERR_AGAIN: busy, ask later or elsewhere */
};

struct msg_object_ask {
    struct hash object; /* a manifest or a pack index, by its SHA-256 */
    uint64_t offset;
};

struct msg_object {
    struct hash object;
    uint64_t total; /* 0: I do not have it */
    uint64_t offset;
    struct bytes bytes;
};

/* The codec of a type, or NULL if there is no such type. PING and PONG carry nothing. */
const struct codec *msg_codec(enum msg_type type);
const char *msg_name(enum msg_type type);

/* Appends a whole frame. */
MUST_CHECK int msg_frame(struct buf *out, enum msg_type type, const void *msg, struct err *err);

/* Appends a whole frame but the content of its last field, which is `bytes` (LEAF, OBJECT…): that
 * follows without a copy. */
MUST_CHECK int msg_frame_head(struct buf *out, enum msg_type type, const void *msg,
                              struct err *err);

/* How long the frame is that begins with these bytes: 0 while that cannot be told yet. Errors as
 * msg_next_frame()'s. */
MUST_CHECK int msg_frame_bytes(const void *data, size_t len, size_t *ret_len, struct err *err);

/* Looks at the first bytes of a stream. 0 and *ret_len = 0: more is needed. 0 and *ret_len > 0: a
 * whole frame of that many bytes, *ret_type and *ret_payload (borrowed from data) are set.
 * -ERR_INVALID: length over FRAME_MAX or zero, or an unknown type: close the connection. */
MUST_CHECK int msg_next_frame(const void *data, size_t len, size_t *ret_len,
                              enum msg_type *ret_type, struct bytes *ret_payload, struct err *err);

#endif
