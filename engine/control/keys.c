#include "control/keys.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/loop.h"
#include "io/pki.h"

enum { KEY_FILE_MAX_BYTES = 4096, LOCK_TRIES = 200, LOCK_STEP_MS = 50 };

/* Reads one line of a small file without its line end. */
static int read_line(struct buf *out, const char *dir, const char *name, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);
    int r = file_read(out, path, KEY_FILE_MAX_BYTES, err);

    while (r == 0 && out->len > 0 && out->data[out->len - 1] == '\n')
        out->data[--out->len] = '\0';
    return r;
}

static int write_line(const char *dir, const char *name, const char *text, mode_t mode,
                      struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/%s", dir, name);
    AUTO_FREE char *line = mem_printf("%s\n", text);

    return file_publish(path, line, strlen(line), mode, err);
}

static int load_seed(struct secret_key *key, const char *dir, const char *name, struct err *err)
{
    AUTO_BUF text = BUF_INIT;
    struct err why = ERR_INIT;
    char hex[2 * KEY_BYTES + 1];
    int r = read_line(&text, dir, name, &why);

    if (r == -ERR_NOT_FOUND) {
        random_bytes(key->seed, sizeof(key->seed));
        hex_encode(hex, key->seed, sizeof(key->seed));
        return write_line(dir, name, hex, 0600, err);
    }
    if (r < 0)
        return err_set(err, why.code, "%s", why.text);
    if (!hex_decode(key->seed, sizeof(key->seed), buf_str(&text)))
        return err_set(err, ERR_INVALID, "%s/%s: not 64 hexadecimal digits", dir, name);
    return 0;
}

static int load_cluster(struct keys *k, const char *cluster, struct err *err)
{
    AUTO_BUF text = BUF_INIT;
    struct err why = ERR_INIT;
    unsigned char random[2];
    int r = read_line(&text, k->dir, "cluster", &why);

    if (r == 0) {
        k->cluster = mem_strdup(buf_str(&text));
        return doc_check_name("cluster", k->cluster, err);
    }
    if (r != -ERR_NOT_FOUND)
        return err_set(err, why.code, "%s", why.text);
    random_bytes(random, sizeof(random));
    k->cluster =
        cluster != NULL ? mem_strdup(cluster) : mem_printf("local-%02x%02x", random[0], random[1]);
    r = doc_check_name("cluster", k->cluster, err);
    return r < 0 ? r : write_line(k->dir, "cluster", k->cluster, 0644, err);
}

static json_t *key_json(const struct secret_key *secret)
{
    struct public_key key = key_public(secret);
    char hex[2 * KEY_BYTES + 1];

    hex_encode(hex, key.b, sizeof(key.b));
    return json_string(hex);
}

static int make_trust(const struct keys *k, const char *path, struct err *err)
{
    AUTO_JSON *body =
        json_pack("{s:i,s:s,s:i,s:I,s:o,s:[o],s:[o],s:[]}", "v", 1, "cluster", k->cluster,
                  "version", 1, "issued", (json_int_t)wall_ms(), "root", key_json(&k->root),
                  "release", key_json(&k->release), "goal", key_json(&k->goal), "deny");
    AUTO_FREE char *text = json_text(body);
    AUTO_BUF doc = BUF_INIT;

    doc_sign(&doc, DOC_TRUST, text, strlen(text), &k->root);
    return file_publish(path, doc.data, doc.len, 0644, err);
}

static int load_trust(struct keys *k, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/trust.doc", k->dir);
    struct public_key root = key_public(&k->root);
    int r = path_exists(path) ? 0 : make_trust(k, path, err);

    if (r == 0)
        r = file_read(&k->trust_doc, path, DOC_MAX_BYTES, err);
    if (r == 0)
        r = trust_open(&k->trust, NULL, &root, k->trust_doc.data, k->trust_doc.len, err);
    if (r < 0)
        return r;
    hex_encode(k->root_pub, root.b, sizeof(root.b));
    return write_line(k->dir, "root.pub", k->root_pub, 0644, err);
}

static int load_all(struct keys *k, const char *cluster, struct err *err)
{
    int r = load_cluster(k, cluster, err);

    if (r == 0)
        r = load_seed(&k->root, k->dir, "root.key", err);
    if (r == 0)
        r = load_seed(&k->release, k->dir, "release.key", err);
    if (r == 0)
        r = load_seed(&k->goal, k->dir, "goal.key", err);
    if (r == 0)
        r = pki_make_ca(k->dir, k->cluster, err);
    return r < 0 ? r : load_trust(k, err);
}

/* Two processes that start at once must not each make a cluster. */
static int lock_dir(int *ret_fd, const char *dir, struct err *err)
{
    AUTO_FREE char *path = mem_printf("%s/lock", dir);
    const struct timespec step = { 0, LOCK_STEP_MS * 1000000L };
    int r = -ERR_EXISTS;

    for (int i = 0; i < LOCK_TRIES && r == -ERR_EXISTS; i++) {
        if (i > 0)
            nanosleep(&step, NULL);
        r = file_lock(ret_fd, path, err);
    }
    if (r == -ERR_EXISTS)
        return err_set(err, ERR_AGAIN, "%s: another process is using it", path);
    return r;
}

int keys_open(struct keys **ret, const char *dir, const char *cluster, struct err *err)
{
    struct keys *k = mem_alloc(sizeof(*k));
    int fd = -1, r = dir_make(dir, 0700, err);

    k->dir = mem_strdup(dir);
    if (r == 0)
        r = lock_dir(&fd, dir, err);
    if (r == 0)
        r = load_all(k, cluster, err);
    if (fd >= 0)
        close(fd);
    if (r < 0) {
        keys_free(k);
        return err_wrap(err, "keys in %s", dir);
    }
    *ret = k;
    return 0;
}

void keys_free(struct keys *k)
{
    if (k == NULL)
        return;
    explicit_bzero(&k->root, sizeof(k->root));
    explicit_bzero(&k->release, sizeof(k->release));
    explicit_bzero(&k->goal, sizeof(k->goal));
    trust_free(k->trust);
    buf_release(&k->trust_doc);
    free(k->cluster);
    free(k->dir);
    free(k);
}

int keys_issue(const struct keys *k, const char *out_dir, enum link_role role, const char *id,
               struct err *err)
{
    int r = doc_check_name(role_name(role), id, err);

    if (r == 0)
        r = dir_make(out_dir, 0700, err);
    if (r == 0)
        r = pki_issue(k->dir, out_dir, k->cluster, role, id, err);
    if (r == 0)
        r = write_line(out_dir, "root.pub", k->root_pub, 0644, err);
    return r < 0 ? err_wrap(err, "issue %s %s", role_name(role), id) : 0;
}
