#include "policy/bundle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "io/files.h"
#include "policy/eval.h"
#include "policy/requires.h"

struct bundle {
    char *main;
    json_t *files; /* name to text */
};

bool bundle_module_file(const char *module, char out[BUNDLE_NAME_MAX])
{
    size_t len = strlen(module);
    if (len == 0 || len + 5 > BUNDLE_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = module[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '-';
        bool dot = c == '.' && i > 0 && i + 1 < len && module[i - 1] != '.';
        if (!word && !dot)
            return false;
        out[i] = dot ? '/' : c;
    }
    memcpy(out + len, ".lua", 5);
    return true;
}

/* Names that a bundle may hold: relative, ending in .lua, without "." or ".." in their way. */
static bool is_name(const char *name)
{
    size_t len = strlen(name);
    if (len < 5 || len >= BUNDLE_NAME_MAX || strcmp(name + len - 4, ".lua") != 0 || *name == '/')
        return false;
    for (const char *c = name; *c != 0; c++)
        if ((unsigned char)*c < ' ' || *c == ':' || *c == '\\' || (c[0] == '/' && c[1] == '/'))
            return false;
    if (strncmp(name, "./", 2) == 0 || strncmp(name, "../", 3) == 0)
        return false;
    return strstr(name, "/./") == NULL && strstr(name, "/../") == NULL &&
           strncmp(name, "slipway/", 8) != 0;
}

static int check_text(const char *name, const char *text, size_t len, struct err *err)
{
    if (len > POLICY_FILE_MAX_BYTES)
        return err_set(err, ERR_POLICY, "%s: longer than %d KiB", name,
                       POLICY_FILE_MAX_BYTES / 1024);
    if (len > 0 && text[0] == '\x1b')
        return err_set(err, ERR_POLICY, "%s: is compiled Lua; only text is accepted", name);
    return 0;
}

static int add_file(struct bundle *b, const char *dir, const char *name, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);
    AUTO_BUF text = BUF_INIT;
    struct err why = ERR_INIT;
    if (file_read(&text, path, POLICY_FILE_MAX_BYTES + 1, &why) < 0 && why.code != ERR_LIMIT)
        return err_set(err, why.code == ERR_NOT_FOUND ? ERR_NOT_FOUND : ERR_POLICY, "%s: %s", name,
                       why.text);
    if (why.code == ERR_LIMIT)
        return err_set(err, ERR_POLICY, "%s: longer than %d KiB", name,
                       POLICY_FILE_MAX_BYTES / 1024);
    int rc = check_text(name, buf_str(&text), text.len, err);
    if (rc < 0)
        return rc;
    json_t *value = json_stringn(buf_str(&text), text.len);
    if (value == NULL)
        return err_set(err, ERR_POLICY, "%s: is not text in UTF-8", name);
    json_object_set_new(b->files, name, value);
    return 0;
}

/* Adds the files that this one requires; they are visited in turn by the caller. */
static int add_required(struct bundle *b, const char *dir, const char *name, json_t *queue,
                        struct err *err)
{
    const json_t *text = json_object_get(b->files, name);
    struct requires r;
    requires_init(&r, json_string_value(text), json_string_length(text));
    char module[BUNDLE_NAME_MAX], file[BUNDLE_NAME_MAX];
    for (int line; requires_next(&r, module, sizeof(module), &line);) {
        const char *library;
        size_t len;
        if (eval_library(module, &library, &len) != NULL)
            continue;
        if (!bundle_module_file(module, file) || strncmp(file, "slipway/", 8) == 0)
            return err_set(err, ERR_POLICY, "%s:%d: require '%s': no such module", name, line,
                           module);
        if (json_object_get(b->files, file) != NULL)
            continue;
        if (json_object_size(b->files) >= POLICY_FILES_MAX)
            return err_set(err, ERR_POLICY, "%s:%d: require '%s': more than %d files", name, line,
                           module, POLICY_FILES_MAX);
        struct err why = ERR_INIT;
        if (add_file(b, dir, file, &why) < 0) {
            if (why.code == ERR_NOT_FOUND)
                return err_set(err, ERR_POLICY, "%s:%d: require '%s': no file %s beside the policy",
                               name, line, module, file);
            return err_set(err, ERR_POLICY, "%s", why.text);
        }
        json_array_append_new(queue, json_string(file));
    }
    return 0;
}

static struct bundle *bundle_new(const char *name)
{
    struct bundle *b = mem_alloc(sizeof(*b));
    b->main = mem_strdup(name);
    b->files = json_object();
    return b;
}

void bundle_free(struct bundle *b)
{
    if (b == NULL)
        return;
    free(b->main);
    json_decref(b->files);
    free(b);
}

int bundle_load(struct bundle **ret, const char *path, struct err *err)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    AUTO_FREE char *dir = slash ? mem_strndup(path, (size_t)(slash - path) + 1) : mem_strdup(".");
    *ret = NULL;
    if (!is_name(name))
        return err_set(err, ERR_POLICY, "%s: a policy is a file named something.lua", path);
    struct bundle *b = bundle_new(name);
    json_t *queue = json_pack("[s]", name);
    struct err why = ERR_INIT;
    int rc = add_file(b, dir, name, &why);
    for (size_t i = 0; rc == 0 && i < json_array_size(queue); i++)
        rc = add_required(b, dir, json_string_value(json_array_get(queue, i)), queue, &why);
    json_decref(queue);
    if (rc < 0) {
        bundle_free(b);
        return err_set(err, why.code, "%s", why.text);
    }
    *ret = b;
    return 0;
}

int bundle_from_json(struct bundle **ret, const json_t *json, struct err *err)
{
    *ret = NULL;
    const char *name;
    const json_t *files;
    if (!json_is_object(json))
        return err_set(err, ERR_INVALID, "bundle: not an object");
    if (json_get_text(json, "main", BUNDLE_NAME_MAX, &name, err) < 0 ||
        json_get_object(json, "files", &files, err) < 0)
        return err_wrap(err, "bundle");
    if (json_object_get(files, name) == NULL)
        return err_set(err, ERR_INVALID, "bundle: main: no file %s in it", name);
    if (json_object_size(files) > POLICY_FILES_MAX)
        return err_set(err, ERR_LIMIT, "bundle: more than %d files", POLICY_FILES_MAX);
    struct bundle *b = bundle_new(name);
    int rc = 0;
    void *at = json_object_iter(json_object_get(json, "files"));
    for (json_t *all = json_object_get(json, "files"); at != NULL && rc == 0;
         at = json_object_iter_next(all, at)) {
        const char *key = json_object_iter_key(at);
        const json_t *text = json_object_iter_value(at);
        if (!is_name(key))
            rc = err_set(err, ERR_INVALID, "bundle: not a file name: %.100s", key);
        else if (!json_is_string(text))
            rc = err_set(err, ERR_INVALID, "bundle: %s: not a text", key);
        else
            rc = check_text(key, json_string_value(text), json_string_length(text), err);
        if (rc == 0)
            json_object_set_new(b->files, key,
                                json_stringn(json_string_value(text), json_string_length(text)));
    }
    if (rc < 0) {
        bundle_free(b);
        return rc;
    }
    *ret = b;
    return 0;
}

json_t *bundle_to_json(const struct bundle *b)
{
    return json_pack("{s:s,s:O}", "main", b->main, "files", b->files);
}

struct hash bundle_hash(const struct bundle *b)
{
    json_t *json = bundle_to_json(b);
    AUTO_FREE char *text = json_text(json);
    json_decref(json);
    return sha256_of(text, strlen(text));
}

const char *bundle_main(const struct bundle *b)
{
    return b->main;
}

const char *bundle_file(const struct bundle *b, const char *name, size_t *len)
{
    const json_t *text = json_object_get(b->files, name);
    if (text != NULL && len != NULL)
        *len = json_string_length(text);
    return json_string_value(text);
}
