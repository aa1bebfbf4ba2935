#include "control/bases.h"

#include <string.h>

#include "base/mem.h"
#include "wire/doc.h"

/* The artifact of two releases counts once, with the machines of both. */
static void add(struct world *w, const char *variant, const char *artifact, int64_t machines)
{
    for (size_t i = 0; i < w->in.nbases; i++) {
        struct deploy_base *b = &w->bases[i];

        if (strcmp(b->artifact, artifact) == 0 && strcmp(b->variant, variant) == 0) {
            b->machines += machines;
            return;
        }
    }
    w->bases = mem_realloc(w->bases, (w->in.nbases + 1) * sizeof(*w->bases));
    w->bases[w->in.nbases++] =
        (struct deploy_base){ world_keep(w, variant), world_keep(w, artifact), machines };
}

static int is_there(struct db *d, const char *artifact, bool *ret, struct err *err)
{
    struct db_rows *rows = NULL;
    int r = DB_ROWS(d, &rows, err, "SELECT 1 FROM artifact WHERE digest = $1", db_text(artifact));

    *ret = r == 0 && db_rows_count(rows) > 0;
    db_rows_free(rows);
    return r;
}

/* Columns: release, machines, doc. */
static int add_release(struct db *d, struct world *w, const struct db_rows *rows, size_t i,
                       struct err *err)
{
    size_t len = 0;
    const void *doc = db_get_blob(rows, i, 2, &len);
    struct release *rel = NULL;
    struct bytes body;
    struct hash id;
    char hex[HASH_HEX];
    int r = hash_parse(&id, db_get_text(rows, i, 0)) ? doc_body(doc, len, DOC_RELEASE, &body, err)
                                                     : err_set(err, ERR_CORRUPT, "no digest");

    if (r == 0)
        r = release_parse(&rel, &id, &body, err);
    if (r < 0)
        return err_wrap(err, "release %.12s", db_get_text(rows, i, 0));
    for (size_t k = 0; r == 0 && k < rel->nartifacts; k++) {
        bool there = false;

        r = is_there(d, hash_hex(&rel->artifacts[k].artifact, hex), &there, err);
        if (there)
            add(w, rel->artifacts[k].variant, hex, db_get_int(rows, i, 1));
    }
    release_free(rel);
    return r;
}

static const char running_sql[] =
    "SELECT x.release, x.machines, r.doc FROM (SELECT release, CAST(SUM(machines) AS BIGINT) AS "
    "machines FROM running WHERE service = $1 GROUP BY release) x JOIN release r "
    "ON r.hash = x.release ORDER BY x.machines DESC, r.created_at DESC LIMIT $2";

static const char good_sql[] = "SELECT r.hash, 0, r.doc FROM service s JOIN release r "
                               "ON r.hash = s.good_release WHERE s.name = $1 LIMIT $2";

int bases_load(struct db *d, struct world *w, const struct deploy *deploy, struct err *err)
{
    const char *const sql[] = { running_sql, good_sql };
    int r = 0;

    if (!deploy_wants_bases(deploy))
        return 0;
    for (size_t k = 0; r == 0 && k < COUNT_OF(sql); k++) {
        struct db_rows *rows = NULL;

        r = DB_ROWS(d, &rows, err, sql[k], db_text(deploy->service), db_int(BASES_RELEASES));
        for (size_t i = 0; r == 0 && i < db_rows_count(rows); i++)
            r = add_release(d, w, rows, i, err);
        db_rows_free(rows);
    }
    w->in.bases = w->bases;
    return r < 0 ? err_wrap(err, "load bases") : 0;
}
