#include "receipt.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "io/files.h"
#include "wire/json.h"

static char *receipt_path(const char *dir)
{
    return mem_printf("%s/receipt.json", dir);
}

int receipt_save(const struct receipt *r, const char *dir, struct err *err)
{
    AUTO_JSON *json = json_object();
    AUTO_FREE char *path = receipt_path(dir);
    AUTO_FREE char *text = NULL;

    json_object_set_new(json, "deployment", json_string(r->deployment));
    json_object_set_new(json, "wanted", json_integer((json_int_t)r->wanted_bytes));
    json_object_set_new(json, "seed", json_integer((json_int_t)r->seed_bytes));
    json_object_set_new(json, "peer", json_integer((json_int_t)r->peer_bytes));
    json_object_set_new(json, "saved", json_integer((json_int_t)r->saved_bytes));
    if (r->measured)
        json_object_set_new(json, "fetched", fetched_to_json(&r->fetched));
    text = json_text(json);
    if (file_publish(path, text, strlen(text), 0644, err) < 0)
        return err_wrap(err, "receipt");
    return 0;
}

static int parse(struct receipt *r, const json_t *json, struct err *err)
{
    const char *deployment;
    const json_t *fetched = json_object_get(json, "fetched");
    int64_t wanted, seed, peer, saved;

    if (json_get_text(json, "deployment", NAME_MAX_BYTES, &deployment, err) < 0 ||
        json_get_int(json, "wanted", 0, INT64_MAX, &wanted, err) < 0 ||
        json_get_int(json, "seed", 0, INT64_MAX, &seed, err) < 0 ||
        json_get_int(json, "peer", 0, INT64_MAX, &peer, err) < 0 ||
        json_get_int(json, "saved", 0, INT64_MAX, &saved, err) < 0)
        return -(int)err->code;
    if (fetched != NULL && fetched_from_json(&r->fetched, fetched, err) < 0)
        return err_wrap(err, "fetched");
    r->measured = fetched != NULL;
    snprintf(r->deployment, sizeof(r->deployment), "%s", deployment);
    r->wanted_bytes = (uint64_t)wanted;
    r->seed_bytes = (uint64_t)seed;
    r->peer_bytes = (uint64_t)peer;
    r->saved_bytes = (uint64_t)saved;
    return 0;
}

int receipt_load(struct receipt *r, const char *dir, struct err *err)
{
    AUTO_JSON *json = NULL;
    AUTO_FREE char *path = receipt_path(dir);
    AUTO_BUF text = BUF_INIT;
    struct err own = ERR_INIT;

    if (err == NULL)
        err = &own;
    memset(r, 0, sizeof(*r));
    if (file_read(&text, path, RECEIPT_FILE_MAX, err) < 0)
        return err_wrap(err, "receipt");
    if (json_parse(&json, text.data, text.len, err) < 0 || parse(r, json, err) < 0) {
        memset(r, 0, sizeof(*r));
        err->code = ERR_CORRUPT;
        return err_wrap(err, "%s", path);
    }
    return 0;
}
