#include "control/commit.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/deltas.h"
#include "control/duty.h"
#include "control/history.h"
#include "control/sign.h"
#include "control/swarm_totals.h"

void turn_release(struct turn *t)
{
    for (size_t i = 0; i < t->nactions; i++)
        deploy_actions_release(&t->actions[i]);
    for (size_t i = 0; i < t->ndecisions; i++) {
        free(t->decisions[i].question);
        free(t->decisions[i].action);
        free(t->decisions[i].reason);
        free(t->decisions[i].input);
        free(t->decisions[i].output);
    }
    free(t->actions);
    free(t->decisions);
    free(t->detail);
    buf_release(&t->release_doc);
    *t = (struct turn){ 0 };
}

static int write_events(struct db *d, const struct turn *t, struct err *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < t->nactions; i++) {
        const struct deploy_actions *a = &t->actions[i];

        for (size_t k = 0; r == 0 && k < a->nevents; k++)
            r = event_add(d, t->record->deploy->id, a->events[k].kind, a->events[k].text,
                          a->events[k].data, err);
    }
    return r;
}

static int write_decisions(struct db *d, const struct turn *t, struct err *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < t->ndecisions; i++) {
        const struct turn_decision *one = &t->decisions[i];

        r = decision_add(d, t->record->deploy->id, one->question, one->action, one->reason,
                         t->record->bundle, one->input, one->output, err);
    }
    return r;
}

static int write_asks(struct db *d, const struct turn *t, struct err *err)
{
    const char *id = t->record->deploy->id;
    int r = 0;

    for (size_t i = 0; r == 0 && i < t->world->in.nreplies; i++)
        r = DB_EXEC(d, err, "DELETE FROM ask WHERE deployment = $1 AND key = $2", db_text(id),
                    db_text(t->world->in.replies[i].key));
    for (size_t i = 0; r == 0 && i < t->nactions; i++) {
        for (size_t k = 0; r == 0 && k < t->actions[i].nasks; k++) {
            const struct deploy_ask *ask = &t->actions[i].asks[k];
            AUTO_FREE char *request = json_text(ask->request);

            r = DB_EXEC(d, err,
                        "INSERT INTO ask (deployment, key, region, kind, request, created_at) "
                        "VALUES ($1, $2, $3, $4, $5, now_ms())",
                        db_text(id), db_text(ask->key), db_text(ask->region), db_text(ask->kind),
                        db_text(request));
        }
    }
    return r;
}

static int write_goal(struct db *d, const struct turn *t, const struct deploy_goal *g,
                      struct err *err)
{
    const struct deploy *deploy = t->record->deploy;
    AUTO_BUF doc = BUF_INIT;
    int64_t seq = 0, changed = 0;
    int r = sign_goal(t->keys, g->body, &doc, err);

    if (r == 0)
        r = counter_next(d, "relay", &seq, err);
    if (r == 0)
        r = DB_CHANGE(d, &changed, err,
                      "INSERT INTO goal (service, region, generation, seq, deployment, release, "
                      "rollback_to, doc) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
                      "ON CONFLICT (service, region) DO UPDATE SET generation = $3, seq = $4, "
                      "deployment = $5, release = $6, rollback_to = $7, doc = $8 "
                      "WHERE goal.generation < $3",
                      db_text(deploy->service), db_text(g->region), db_int(g->generation),
                      db_int(seq), db_text(deploy->id), db_text(g->release),
                      db_text(g->rollback_to), db_blob(doc.data, doc.len));
    if (r == 0 && changed == 0)
        r = err_set(err, ERR_CONFLICT, "the goal of region %s is newer already", g->region);
    return r;
}

static int write_goals(struct db *d, const struct turn *t, struct err *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < t->nactions; i++)
        for (size_t k = 0; r == 0 && k < t->actions[i].ngoals; k++)
            r = write_goal(d, t, &t->actions[i].goals[k], err);
    return r;
}

/* What a region said about these artifacts in an earlier deployment may no longer be true: it is
 * asked now, and answers at once if it has them. */
static int forget_replicas(struct db *d, const json_t *body, struct err *err)
{
    const json_t *artifacts = json_object_get(body, "artifacts");
    int r = 0;

    for (size_t i = 0; r == 0 && i < json_array_size(artifacts); i++)
        r = DB_EXEC(
            d, err, "DELETE FROM replica WHERE artifact = $1",
            db_text(json_string_value(json_object_get(json_array_get(artifacts, i), "artifact"))));
    return r;
}

static int has_replicate(struct db *d, const char *deployment, bool *ret, struct err *err)
{
    struct db_rows *rows = NULL;
    int r =
        DB_ROWS(d, &rows, err, "SELECT 1 FROM relay WHERE deployment = $1 AND kind = 'replicate'",
                db_text(deployment));

    *ret = r == 0 && db_rows_count(rows) > 0;
    db_rows_free(rows);
    return r;
}

static int write_relay(struct db *d, const char *deployment, const struct deploy_relay *relay,
                       struct err *err)
{
    AUTO_FREE char *body = json_text(relay->body);
    int64_t seq = 0;
    int r = counter_next(d, "relay", &seq, err);

    if (r == 0 && strcmp(relay->kind, "replicate") == 0) {
        bool again = false; /* with more packs of the same artifacts */

        r = has_replicate(d, deployment, &again, err);
        if (r == 0 && !again)
            r = forget_replicas(d, relay->body, err);
    }
    return r < 0 ? r
                 : DB_EXEC(d, err,
                           "INSERT INTO relay (deployment, region, kind, seq, body) "
                           "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (deployment, region, kind) "
                           "DO UPDATE SET seq = $4, body = $5",
                           db_text(deployment), db_text(relay->region), db_text(relay->kind),
                           db_int(seq), db_text(body));
}

static int write_relays(struct db *d, const struct turn *t, struct err *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < t->nactions; i++)
        for (size_t k = 0; r == 0 && k < t->actions[i].nrelays; k++)
            r = write_relay(d, t->record->deploy->id, &t->actions[i].relays[k], err);
    return r;
}

static int write_release(struct db *d, const struct turn *t, struct err *err)
{
    const struct deploy *deploy = t->record->deploy;
    json_t *a;
    size_t i;
    int r = 0;

    if (!t->signed_now)
        return 0;
    if (t->release_doc.len > 0)
        r = DB_EXEC(d, err,
                    "INSERT INTO release (hash, service, sha, recipe, doc, good, created_at) "
                    "VALUES ($1, $2, $3, $4, $5, 0, now_ms()) ON CONFLICT (hash) DO NOTHING",
                    db_text(t->release_id), db_text(deploy->service), db_text(deploy->commit),
                    db_text(deploy->recipe), db_blob(t->release_doc.data, t->release_doc.len));
    json_array_foreach(deploy->artifacts, i, a)
    {
        if (r < 0)
            break;
        r = DB_EXEC(d, err,
                    "INSERT INTO artifact (digest, pack, bytes, pack_bytes, files, service, "
                    "created_at) VALUES ($1, $2, $3, $4, $5, $6, now_ms()) "
                    "ON CONFLICT (digest) DO NOTHING",
                    db_text(json_string_value(json_object_get(a, "artifact"))),
                    db_text(json_string_value(json_object_get(a, "pack"))),
                    db_int(json_integer_value(json_object_get(a, "bytes"))),
                    db_int(json_integer_value(json_object_get(a, "pack_bytes"))),
                    db_int(json_integer_value(json_object_get(a, "files"))),
                    db_text(deploy->service));
    }
    return r;
}

/* Of the service's other deployments nothing is told to regions any more. */
static int forget_others(struct db *d, const struct deploy *deploy, struct err *err)
{
    static const char *const tables[] = {
        "DELETE FROM relay WHERE deployment IN (SELECT id FROM deployment WHERE service = $1 "
        "AND live = 0 AND id <> $2)",
        "DELETE FROM ask WHERE deployment IN (SELECT id FROM deployment WHERE service = $1 "
        "AND live = 0)",
    };
    int r = DB_EXEC(d, err, tables[0], db_text(deploy->service), db_text(deploy->id));

    return r < 0 ? r : DB_EXEC(d, err, tables[1], db_text(deploy->service));
}

/* Its counters are added to those of all that have ended (table total). */
static int write_totals(struct db *d, const struct turn *t, struct err *err)
{
    struct moved_bytes m = world_moved(t->world, t->record->deploy);
    const struct {
        const char *name;
        int64_t n;
    } totals[] = {
        { "bytes_origin", m.origin },
        { "bytes_seed", m.seed },
        { "bytes_peer", m.peer },
        { "bytes_saved", m.saved },
    };
    struct swarm_totals swarm = { { 0 } };
    int r;

    swarm_totals_add(&swarm, t->world, t->record->deploy);
    r = swarm_totals_save(d, &swarm, err);
    for (size_t i = 0; r == 0 && i < COUNT_OF(totals); i++) {
        if (totals[i].n > 0)
            r = DB_EXEC(d, err,
                        "INSERT INTO total (name, value) VALUES ($1, $2) ON CONFLICT (name) "
                        "DO UPDATE SET value = total.value + $2",
                        db_text(totals[i].name), db_int(totals[i].n));
    }
    return r;
}

static int write_finish(struct db *d, const struct turn *t, struct err *err)
{
    const struct deploy *deploy = t->record->deploy;
    int r = 0;

    if (deploy->state == DEPLOY_SUCCEEDED && !deploy->nothing_to_do) {
        r = DB_EXEC(d, err,
                    "UPDATE service SET good_release = $2, good_commit = $3 WHERE name = $1",
                    db_text(deploy->service), db_text(deploy->release), db_text(deploy->commit));
        if (r == 0)
            r = DB_EXEC(d, err, "UPDATE release SET good = 1 WHERE hash = $1",
                        db_text(deploy->release));
    }
    if (r == 0)
        r = write_totals(d, t, err);
    if (r == 0 && deploy->plan == NULL)
        r = DB_EXEC(d, err, "DELETE FROM relay WHERE deployment = $1", db_text(deploy->id));
    if (r == 0 && deploy->plan != NULL)
        r = forget_others(d, deploy, err);
    return r;
}

static int write_service(struct db *d, const struct turn *t, struct err *err)
{
    const struct deploy *deploy = t->record->deploy;
    bool shared = false;
    int r = 0;

    for (size_t i = 0; r == 0 && i < t->nactions; i++) {
        const struct deploy_actions *a = &t->actions[i];

        if (a->planned)
            r = DB_EXEC(d, err, "UPDATE service SET last_planned = $2 WHERE name = $1",
                        db_text(deploy->service), db_text(deploy->id));
        if (r == 0)
            r = deltas_want(d, deploy, a->wants, a->nwants, err);
        if (r == 0 && a->drop_deltas)
            r = deltas_drop(d, deploy, err);
        if (r == 0 && a->finished)
            r = write_finish(d, t, err);
        if (r == 0 && a->cancel_job)
            r = job_is_shared(d, t->record->job, deploy->id, &shared, err);
        if (r == 0 && a->cancel_job && !shared)
            r = queue_cancel(d, t->record->job, deploy->reason, err);
    }
    return r;
}

static int write_command(struct db *d, const struct turn *t, struct err *err)
{
    const struct world *w = t->world;
    const char *result = "done";
    int r;

    if (w->command == 0)
        return 0;
    if (t->nactions > 0 && t->actions[0].refused != NULL)
        result = t->actions[0].refused;
    r = DB_EXEC(d, err, "UPDATE command SET result = $2 WHERE number = $1", db_int(w->command),
                db_text(result));
    return r < 0 ? r
                 : audit_add(d, w->in.command_actor, deploy_verb_name(w->in.command),
                             t->record->deploy->id, w->in.command_reason, result, err);
}

static int write_all(struct db *d, void *arg, struct err *err)
{
    struct turn *t = arg;
    int r = duty_check(d, "conductor", t->fence, err);

    if (r == 0)
        r = record_save(d, t->record, t->detail, err);
    if (r == 0)
        r = write_release(d, t, err);
    if (r == 0)
        r = write_decisions(d, t, err);
    if (r == 0)
        r = write_relays(d, t, err);
    if (r == 0)
        r = write_goals(d, t, err);
    if (r == 0)
        r = write_asks(d, t, err);
    if (r == 0)
        r = write_service(d, t, err);
    if (r == 0)
        r = write_events(d, t, err);
    return r < 0 ? r : write_command(d, t, err);
}

int turn_commit(struct db *d, struct turn *t, struct err *err)
{
    int r = db_transaction(d, write_all, t, err);

    return r < 0 ? err_wrap(err, "commit %s", t->record->deploy->id) : 0;
}
