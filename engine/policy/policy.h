/* policy.h - asking a service's Lua policy, in a child process that can be killed.
 *
 * A bundle is the policy's file with the files that it requires, pinned by hash. A policy host is a
 * child process that loads the bundle into a fresh Lua state for each call and answers with JSON;
 * past the deadline it is killed and started again. What a policy may see and return is
 * policies/slipway/types.lua; what comes back from here is already checked against it, with
 * durations as whole seconds (health.interval and health.timeout: milliseconds, as interval_ms,
 * timeout_ms).
 *
 *     bundle_load(&b, "web.lua", &err);                     the file and what it requires
 *     policy_host_new(&h, "/proc/self/exe", &err);          starts `engine policy-host` on first
 * use policy_data(h, b, &data, &err);                       the table's data, defaults filled in
 *     policy_call(h, b, POLICY_ADVANCE, input, &decision, &err);
 *
 * -ERR_POLICY: the policy's fault; the text starts with "file:line: " where Lua knows it, else with
 * "file: ". -ERR_TIMEOUT: over the deadline, "file: advance: ran longer than 200 ms". A failed call
 * never means "go": the caller holds. Calls block: use the work pool. A host is used by one thread
 * at a time. */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include "base/err.h"
#include "base/sha256.h"
#include "wire/json.h"

enum {
    POLICY_FILES_MAX = 64,
    POLICY_FILE_MAX_BYTES = 64 * 1024,
    POLICY_CALL_MS = 200,
    POLICY_INPUT_MAX_BYTES = 1 << 20,
    POLICY_OUTPUT_MAX_BYTES = 1 << 20,
    POLICY_MEMO_MAX_BYTES = 16 * 1024,
    POLICY_STEPS_MAX = 64,
};

struct bundle;

/* Reads path and, recursively, every file that a literal require names: "slipway" is the built-in
 * library, "a.b" is a/b.lua beside the policy. -ERR_NOT_FOUND if there is no file at path; -ERR_POLICY
 * for all else. */
MUST_CHECK int bundle_load(struct bundle **ret, const char *path, struct err *err);

/* {"main":NAME,"files":{NAME:TEXT,…}} as sent over HTTP and kept in SQL; checks names and limits.
 */
MUST_CHECK int bundle_from_json(struct bundle **ret, const json_t *json, struct err *err);
json_t *bundle_to_json(const struct bundle *b);  /* gives */
struct hash bundle_hash(const struct bundle *b); /* of the compact JSON text */
const char *bundle_main(const struct bundle *b);
void bundle_free(struct bundle *b);

struct policy_host;

MUST_CHECK int policy_host_new(struct policy_host **ret, const char *engine_path, struct err *err);
void policy_host_free(struct policy_host *h);

/* Data of the policy with defaults filled in:
 *   {"service","repo":TEXT|null,"select":PREDICATE,"variant":RULE,
 *    "activate":{"mode","start":[…],"stop":[…]|null,"env":{}},
 *    "health":{"http"|"exec","interval_ms","timeout_ms","passes","within"}|null,
 *    "deadline","hold_for","on_hold_expired","on_failure",
 *    "functions":{"build":bool,"replicate":bool,"waves":bool,"advance":bool}} */
MUST_CHECK int policy_data(struct policy_host *h, const struct bundle *b, json_t **ret,
                           struct err *err);

enum policy_question {
    POLICY_NONE = 0,
    POLICY_BUILD, /* input BuildContext; answer {"steps":[{"name","run":[…],"dir","env","needs":[…],
                     "timeout","silence","network","max_log_bytes"}…],"outputs":{VARIANT:PATH},
                     "deadline"}; sh has become run = {"/bin/sh","-eu","-c",…} */
    POLICY_REPLICATE, /* input Replication; answer Decision */
    POLICY_WAVES,     /* input Fleet; answer [{"name","where":PREDICATE,"count"|"percent","bake",
                         "max_failed","max_moving":N|"N%"}…] */
    POLICY_ADVANCE,   /* input Snapshot; answer Decision {"action","reason","after","memo"} */
};

/* Missing functions are answered by the defaults that types.lua describes, which are Lua too
 * (policies/slipway/defaults.lua) and run in the same place. */
MUST_CHECK int policy_call(struct policy_host *h, const struct bundle *b, enum policy_question q,
                           const json_t *input, json_t **ret, struct err *err);

/* main() of the child: `engine policy-host`, requests on descriptor 0, answers on 1. */
int policy_host_main(void);

#endif
