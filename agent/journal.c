#include "journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "io/files.h"
#include "wire/json.h"

enum { JOURNAL_FILE_MAX = 256 * 1024, PORT_MAX = 65535 };

static const char *const phase_names[] = {
    [JOURNAL_NONE] = "none",
    [JOURNAL_TRIAL] = "trial",
    [JOURNAL_COMMITTED] = "committed",
    [JOURNAL_STOPPED] = "stopped",
};

const char *journal_phase_name(enum journal_phase phase)
{
    return phase_names[phase];
}

static int parse_phase(const char *name, enum journal_phase *ret, struct err *err)
{
    for (int i = JOURNAL_NONE; i <= JOURNAL_STOPPED; i++) {
        if (strcmp(name, phase_names[i]) == 0) {
            *ret = (enum journal_phase)i;
            return 0;
        }
    }
    return err_set(err, ERR_CORRUPT, "phase: unknown '%s'", name);
}

static int parse_bad(struct journal *j, const json_t *list, struct err *err)
{
    size_t i;
    json_t *item;

    json_array_foreach(list, i, item)
    {
        const char *deployment, *reason;
        struct hash release;

        if (json_get_hash(item, "release", &release, err) < 0 ||
            json_get_text(item, "deployment", NAME_MAX_BYTES, &deployment, err) < 0 ||
            json_get_text(item, "reason", REASON_MAX_BYTES, &reason, err) < 0)
            return err_wrap(err, "bad");
        journal_latch_bad(j, &release, deployment, reason);
    }
    return 0;
}

static int parse(struct journal *j, const json_t *json, struct err *err)
{
    const char *phase, *deployment;
    const json_t *bad;
    int64_t activation, starts, port;

    if (json_get_text(json, "phase", 16, &phase, err) < 0 ||
        parse_phase(phase, &j->phase, err) < 0 ||
        json_get_hash_or_zero(json, "release", &j->release, err) < 0 ||
        json_get_hash_or_zero(json, "previous", &j->previous, err) < 0 ||
        json_get_text_or(json, "deployment", NAME_MAX_BYTES, "", &deployment, err) < 0 ||
        json_get_int(json, "activation", 0, INT64_MAX, &activation, err) < 0 ||
        json_get_int(json, "starts", 0, INT32_MAX, &starts, err) < 0 ||
        json_get_int(json, "port", 0, PORT_MAX, &port, err) < 0 ||
        json_get_array(json, "bad", JOURNAL_BAD_MAX, &bad, err) < 0)
        return -(int)err->code;
    snprintf(j->deployment, sizeof(j->deployment), "%s", deployment);
    j->activation = (uint64_t)activation;
    j->starts = (int)starts;
    j->port = (int)port;
    return parse_bad(j, bad, err);
}

int journal_load(struct journal *j, const char *path, struct err *err)
{
    AUTO_JSON *json = NULL;
    AUTO_BUF text = BUF_INIT;
    struct err own = ERR_INIT;

    if (err == NULL)
        err = &own;
    memset(j, 0, sizeof(*j));
    if (!path_exists(path))
        return 0;
    if (file_read(&text, path, JOURNAL_FILE_MAX, err) < 0)
        return err_wrap(err, "journal");
    if (json_parse(&json, text.data, text.len, err) < 0 || parse(j, json, err) < 0) {
        memset(j, 0, sizeof(*j));
        err->code = ERR_CORRUPT;
        return err_wrap(err, "journal: %s", path);
    }
    return 0;
}

static json_t *hash_or_null(const struct hash *h)
{
    return hash_is_zero(h) ? json_null() : json_hash(h);
}

int journal_save(const struct journal *j, const char *path, struct err *err)
{
    AUTO_JSON *json = json_object();
    AUTO_FREE char *text = NULL;
    json_t *bad = json_array();

    for (int i = 0; i < j->nbad; i++) {
        json_t *item = json_object();

        json_object_set_new(item, "release", json_hash(&j->bad[i].release));
        json_object_set_new(item, "deployment", json_string(j->bad[i].deployment));
        json_object_set_new(item, "reason", json_string(j->bad[i].reason));
        json_array_append_new(bad, item);
    }
    json_object_set_new(json, "phase", json_string(phase_names[j->phase]));
    json_object_set_new(json, "release", hash_or_null(&j->release));
    json_object_set_new(json, "previous", hash_or_null(&j->previous));
    json_object_set_new(json, "deployment", json_string(j->deployment));
    json_object_set_new(json, "activation", json_integer((json_int_t)j->activation));
    json_object_set_new(json, "starts", json_integer(j->starts));
    json_object_set_new(json, "port", json_integer(j->port));
    json_object_set_new(json, "bad", bad);
    text = json_text(json);
    if (file_publish(path, text, strlen(text), 0600, err) < 0)
        return err_wrap(err, "journal");
    return 0;
}

void journal_latch_bad(struct journal *j, const struct hash *release, const char *deployment,
                       const char *reason)
{
    struct journal_bad *b;

    journal_unlatch(j, release);
    if (j->nbad == JOURNAL_BAD_MAX)
        memmove(&j->bad[0], &j->bad[1], (size_t)--j->nbad * sizeof(j->bad[0]));
    b = &j->bad[j->nbad++];
    b->release = *release;
    snprintf(b->deployment, sizeof(b->deployment), "%s", deployment);
    snprintf(b->reason, sizeof(b->reason), "%s", reason);
}

void journal_unlatch(struct journal *j, const struct hash *release)
{
    for (int i = j->nbad - 1; i >= 0; i--) {
        if (hash_equal(&j->bad[i].release, release)) {
            j->nbad--;
            memmove(&j->bad[i], &j->bad[i + 1], (size_t)(j->nbad - i) * sizeof(j->bad[0]));
        }
    }
}

const char *journal_bad_reason(const struct journal *j, const struct hash *release,
                               const char *deployment)
{
    for (int i = 0; i < j->nbad; i++) {
        if (hash_equal(&j->bad[i].release, release) &&
            strcmp(j->bad[i].deployment, deployment) == 0)
            return j->bad[i].reason;
    }
    return NULL;
}
