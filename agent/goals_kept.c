/* What goals keep on disk: ROOT/trust.doc, ROOT/floor/, ROOT/goals/. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/log.h"
#include "base/mem.h"
#include "goals_internal.h"
#include "io/files.h"

enum { FLOOR_FILE_MAX = 256 };

char *goals_doc_path(const struct goals *g, const char *service)
{
    return mem_printf("%s/goals/%s.doc", g->root, service);
}

static char *floor_path(const struct goals *g, const char *service)
{
    return mem_printf("%s/floor/%s", g->root, service);
}

struct kept *goals_kept(const struct goals *g, const char *service)
{
    return map_get(&g->services, service);
}

struct kept *goals_kept_make(struct goals *g, const char *service)
{
    struct kept *k = goals_kept(g, service);

    if (k == NULL) {
        k = mem_alloc(sizeof(*k));
        k->service = mem_strdup(service);
        map_put(&g->services, service, k);
    }
    return k;
}

/* trust.doc = the key that signed it, 64 digits, a newline, the document: after a change of the
 * root key that is the one before, which the document itself does not name. */
static int load_trust(struct goals *g, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/trust.doc", g->root);
    AUTO_BUF data = BUF_INIT;
    struct public_key signer;
    struct bytes body;
    int r;

    if (!path_exists(path))
        return 0;
    if (file_read(&data, path, DOC_MAX_BYTES + HASH_HEX, err) < 0)
        return err_wrap(err, "goals");
    if (data.len < HASH_HEX || data.data[HASH_HEX - 1] != '\n')
        return err_set(err, ERR_CORRUPT, "goals: %s: not a trust file", path);
    data.data[HASH_HEX - 1] = '\0';
    if (!hex_decode(signer.b, KEY_BYTES, data.data))
        return err_set(err, ERR_CORRUPT, "goals: %s: not a trust file", path);
    buf_consume(&data, HASH_HEX);
    r = doc_open(data.data, data.len, DOC_TRUST, &signer, 1, &body, err);
    if (r == 0)
        r = trust_parse(&g->trust, &body, err);
    if (r < 0)
        return err_wrap(err, "goals: %s", path);
    g->trust_digest = sha256_of(data.data, data.len);
    return 0;
}

int goals_keep_trust(struct goals *g, const struct public_key *signer, const void *data, size_t len,
                     struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/trust.doc", g->root);
    AUTO_BUF out = BUF_INIT;
    char hex[HASH_HEX];

    hex_encode(hex, signer->b, KEY_BYTES);
    buf_printf(&out, "%s\n", hex);
    buf_append(&out, data, len);
    return file_publish(path, out.data, out.len, 0600, err);
}

static int load_floor(struct goals *g, const char *service, struct err *err)
{
    AUTO_FREE char *path = floor_path(g, service);
    AUTO_BUF text = BUF_INIT;
    char hex[HASH_HEX] = "";
    uint64_t floor;
    struct kept *k;
    struct hash digest;

    if (file_read(&text, path, FLOOR_FILE_MAX, err) < 0)
        return err_wrap(err, "goals");
    if (sscanf(buf_str(&text), "%" SCNu64 " %64s", &floor, hex) != 2 || !hash_parse(&digest, hex))
        return err_set(err, ERR_CORRUPT, "goals: %s: not a floor", path);
    k = goals_kept_make(g, service);
    k->floor = floor;
    k->digest = digest;
    return 0;
}

int goals_keep_floor(const struct goals *g, const char *service, uint64_t floor,
                     const struct hash *digest, struct err *err)
{
    AUTO_FREE char *path = floor_path(g, service);
    AUTO_BUF text = BUF_INIT;
    char hex[HASH_HEX];

    buf_printf(&text, "%" PRIu64 " %s\n", floor, hash_hex(digest, hex));
    return file_publish(path, text.data, text.len, 0600, err);
}

void goals_note_signed_time(struct goals *g, int64_t issued_ms)
{
    if (issued_ms > g->newest_signed_ms)
        g->newest_signed_ms = issued_ms;
}

/* Puts the kept goal of k in force if it still holds: signed by a key of today's trust document, of
 * our region, and exactly the one that the floor names. */
static void load_goal(struct goals *g, struct kept *k)
{
    AUTO_FREE char *path = goals_doc_path(g, k->service);
    AUTO_BUF data = BUF_INIT;
    struct err err = ERR_INIT;
    struct goal *goal = NULL;
    struct hash digest;

    goal_free(k->goal);
    k->goal = NULL;
    if (g->trust == NULL || !path_exists(path))
        return;
    if (file_read(&data, path, DOC_MAX_BYTES, &err) < 0 ||
        goal_open(&goal, g->trust, data.data, data.len, &err) < 0) {
        log_warn("kept goal of %s is not in force: %s", k->service, err.text);
        return;
    }
    digest = sha256_of(data.data, data.len);
    if (goal->generation != k->floor || !hash_equal(&digest, &k->digest) ||
        strcmp(goal->service, k->service) != 0 ||
        (g->region != NULL && strcmp(goal->region, g->region) != 0)) {
        log_warn("kept goal of %s is not in force: generation %" PRIu64 ", the floor is %" PRIu64,
                 k->service, goal->generation, k->floor);
        goal_free(goal);
        return;
    }
    goals_note_signed_time(g, goal->issued_ms);
    k->goal = goal;
}

void goals_load_goals(struct goals *g)
{
    struct map_entry *e;

    for (size_t i = 0; (e = map_next(&g->services, &i)) != NULL;)
        load_goal(g, e->value);
}

bool goals_is_leftover(const char *name)
{
    return strstr(name, ".tmp-") != NULL;
}

static int floor_found(void *ctx, const char *name, struct err *err)
{
    if (goals_is_leftover(name) || doc_check_name("service", name, NULL) < 0)
        return 0;
    return load_floor(ctx, name, err);
}

int goals_load(struct goals *g, struct err *err)
{
    AUTO_FREE char *floors = mem_printf("%s/floor", g->root);

    if (load_trust(g, err) < 0 || dir_each(floors, floor_found, g, err) < 0)
        return -(int)err->code;
    goals_load_goals(g);
    return 0;
}
