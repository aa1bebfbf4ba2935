#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/files.h"
#include "wire/json.h"

enum { RUN_FILE_MAX = 4096, PORT_MAX = 65535 };

int run_load(struct run *r, const char *path, bool *ret_found, struct err *err)
{
    AUTO_JSON *json = NULL;
    AUTO_BUF text = BUF_INIT;
    struct err own = ERR_INIT;
    int64_t pid, ticks, activation, port;
    const char *boot;

    if (err == NULL)
        err = &own;
    memset(r, 0, sizeof(*r));
    *ret_found = path_exists(path);
    if (!*ret_found)
        return 0;
    if (file_read(&text, path, RUN_FILE_MAX, err) < 0)
        return err_wrap(err, "run");
    if (json_parse(&json, text.data, text.len, err) < 0 ||
        json_get_int(json, "pid", 0, INT32_MAX, &pid, err) < 0 ||
        json_get_int(json, "start_ticks", 0, INT64_MAX, &ticks, err) < 0 ||
        json_get_text(json, "boot", BOOT_MAX_BYTES, &boot, err) < 0 ||
        json_get_hash(json, "release", &r->release, err) < 0 ||
        json_get_int(json, "activation", 0, INT64_MAX, &activation, err) < 0 ||
        json_get_int(json, "port", 0, PORT_MAX, &port, err) < 0) {
        err->code = ERR_CORRUPT;
        return err_wrap(err, "run: %s", path);
    }
    r->id = (struct proc_id){ (pid_t)pid, (uint64_t)ticks };
    snprintf(r->boot, sizeof(r->boot), "%s", boot);
    r->activation = (uint64_t)activation;
    r->port = (int)port;
    return 0;
}

int run_save(const struct run *r, const char *path, struct err *err)
{
    AUTO_JSON *json = json_object();
    AUTO_FREE char *text = NULL;

    json_object_set_new(json, "pid", json_integer(r->id.pid));
    json_object_set_new(json, "start_ticks", json_integer((json_int_t)r->id.start_ticks));
    json_object_set_new(json, "boot", json_string(r->boot));
    json_object_set_new(json, "release", json_hash(&r->release));
    json_object_set_new(json, "activation", json_integer((json_int_t)r->activation));
    json_object_set_new(json, "port", json_integer(r->port));
    text = json_text(json);
    return file_publish(path, text, strlen(text), 0600, err);
}

bool run_is_of_this_boot(const struct run *r)
{
    return strcmp(r->boot, proc_boot_id()) == 0;
}
