/* doc.h - the three signed documents: trust, release, goal.
 *
 * A document is JSON in an envelope of bytes:
 *
 *   "SLD1"  u8 kind  u16 key id length, key id  64 bytes signature  u32 body length, body
 *
 * The signature is Ed25519 over  "slipway.doc\0" kind "\0" body  - exact bytes with a type tag,
 * kind being the text "trust", "release" or "goal"; nothing is parsed before its signature holds. A
 * key id is the first 16 hex digits of SHA-256(public key). A release is named by the SHA-256 of
 * its whole envelope.
 *
 *   trust    {"v":1,"cluster","version","issued","root":KEY,"release":[KEY...],"goal":[KEY...],
 *             "deny":[ID...]}
 *            signed by root; KEY = 64 hex digits. Version N+1 is signed by N's root key. deny names
 *            key ids, releases (64 hex digits) and machines that are no longer trusted.
 *   release  {"v":1,"cluster","service","commit","created","variant":RULE,
 *             "artifacts":[{"variant","artifact":HASH,"bytes","files"}...],
 *             "activate":{"mode":"process"|"command","start":[ARG...],"stop":[ARG...]|null,
 *                         "env":{NAME:TEXT}},
 *             "health":null | {"interval","timeout","passes","within"}
 *                      with "http":URL or "exec":[ARG...] or neither}
 *            The four of health are seconds (a fraction is allowed) but passes, a count.
 *   goal     {"v":1,"cluster","region","service","generation","issued","expires","deployment",
 *             "release":HASH|null,"rollback_to":HASH|null,"select":PREDICATE,
 *             "stage":[{"where","threshold":HEX16}...],"activate":[{"where","threshold"}...],
 *             "max_moving","action":"run"|"stop"|"absent","urgent":bool}
 *            action run: stage `release` where a stage rule takes the machine; switch to it where
 *            an activate rule does. stop: machines that moved stop the service and drop it.
 *            absent: the service is removed. A machine keeps `rollback_to` on disk.
 *
 * "issued", "expires", "created" are ms since 1970. Unknown fields are refused. */
#ifndef WIRE_DOC_H
#define WIRE_DOC_H

#include "base/buf.h"
#include "wire/json.h"
#include "wire/msg.h"
#include "wire/predicate.h"

enum {
    KEY_BYTES = 32,
    KEY_ID_HEX = 17, /* counts the NUL */
    SIGNATURE_BYTES = 64,
    KEYS_MAX = 16, /* of one duty in a trust document */
    DENY_MAX = 4096,
    ARGS_MAX = 256,
    ARG_MAX_BYTES = 32 * 1024,
    ENV_MAX = 256,
};

struct public_key {
    unsigned char b[KEY_BYTES];
};

/* Ed25519 seed; keep it in a file of mode 0600. */
struct secret_key {
    unsigned char seed[KEY_BYTES];
};

struct public_key key_public(const struct secret_key *secret);
void key_id(const struct public_key *key, char out[KEY_ID_HEX]);

/* Appends the envelope of body, signed. */
void doc_sign(struct buf *out, enum doc_kind kind, const void *body, size_t len,
              const struct secret_key *key);

/* Checks envelope, kind and signature against any of the keys; *ret_body is borrowed from data.
 * -ERR_INVALID malformed; -ERR_DENIED no such key, or a wrong signature. */
MUST_CHECK int doc_open(const void *data, size_t len, enum doc_kind kind,
                        const struct public_key *keys, size_t nkeys, struct bytes *ret_body,
                        struct err *err);

/* The body of a document of our own records, whose signature nobody needs to judge (again): for
 * reading what was once signed, under whichever key. *ret_body is borrowed. -ERR_INVALID. */
MUST_CHECK int doc_body(const void *data, size_t len, enum doc_kind kind, struct bytes *ret_body,
                        struct err *err);

struct trust {
    char *cluster;
    uint64_t version;
    struct public_key root;
    struct public_key *release_keys, *goal_keys;
    size_t nrelease, ngoal;
    char **deny;
    size_t ndeny;
};

struct release_artifact {
    char *variant;
    struct hash artifact;
    uint64_t bytes, files;
};

enum activate_mode { ACTIVATE_NONE = 0, ACTIVATE_PROCESS, ACTIVATE_COMMAND };

struct health_check {
    char *http;  /* URL with ${PORT}, or NULL */
    char **exec; /* NULL-ended argv, or NULL; both NULL: healthy once it has run `within` seconds */
    int64_t interval_ms, timeout_ms, within_ms;
    int64_t passes; /* in a row */
};

struct release {
    struct hash id; /* SHA-256 of the envelope */
    char *cluster, *service, *commit;
    int64_t created_ms;
    json_t *variant; /* the rule */
    struct release_artifact *artifacts;
    size_t nartifacts;
    enum activate_mode mode;
    char **start, **stop; /* NULL-ended argv; stop may be NULL */
    json_t *env;          /* object of texts */
    bool has_health;
    struct health_check health;
};

struct goal_rule {
    struct predicate *where;
    uint64_t threshold;
};

enum goal_action { GOAL_NONE = 0, GOAL_RUN, GOAL_STOP, GOAL_ABSENT };

struct goal {
    char *cluster, *region, *service, *deployment;
    uint64_t generation;
    int64_t issued_ms, expires_ms;
    struct hash release, rollback_to; /* zero: none */
    struct predicate *select;
    struct goal_rule *stage, *activate;
    size_t nstage, nactivate;
    uint64_t max_moving;
    enum goal_action action;
    bool urgent; /* rollback: fetch and slots before others */
};

/* A name that is also a file's: letters, digits, '.', '_' and '-', not first '.' or '-', 1 to
 * NAME_MAX_BYTES of them. Services, deployments, regions and machines have such names. */
MUST_CHECK int doc_check_name(const char *what, const char *name, struct err *err);

/* From the body of an opened document. Each gives *ret, to be freed by its _free(). */
MUST_CHECK int trust_parse(struct trust **ret, const struct bytes *body, struct err *err);
MUST_CHECK int release_parse(struct release **ret, const struct hash *id, const struct bytes *body,
                             struct err *err);
MUST_CHECK int goal_parse(struct goal **ret, const struct bytes *body, struct err *err);
void trust_free(struct trust *t);
void release_free(struct release *r);
void goal_free(struct goal *g);

bool goal_stages(const struct goal *g, const char *machine, const struct label *labels, size_t n);
bool goal_activates(const struct goal *g, const char *machine, const struct label *labels,
                    size_t n);

/* Opens with the trust file's keys and parses: what agents and region nodes call. -ERR_DENIED too
 * if the document is of another cluster, or its key or release is in the deny list. Whether a goal
 * has expired, or is older than the floor, the caller judges. */
MUST_CHECK int release_open(struct release **ret, const struct trust *t, const void *data,
                            size_t len, struct err *err);
MUST_CHECK int goal_open(struct goal **ret, const struct trust *t, const void *data, size_t len,
                         struct err *err);
/* current == NULL: the first one, which `pin` must have signed and whose root key it must be. Else
 * it must be signed by current's root, be of its cluster, and not older: -ERR_DENIED. */
MUST_CHECK int trust_open(struct trust **ret, const struct trust *current,
                          const struct public_key *pin, const void *data, size_t len,
                          struct err *err);

#endif
