#include "control/auth.h"

#include <string.h>

#include "base/hex.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "io/files.h"
#include "io/loop.h"

static const char *const roles[] = { "nobody", "viewer", "developer", "releaser", "admin" };

const char *role_text(enum role r)
{
    return (size_t)r < COUNT_OF(roles) ? roles[r] : roles[0];
}

bool role_parse(enum role *ret, const char *text)
{
    for (size_t i = 1; i < COUNT_OF(roles); i++) {
        if (strcmp(roles[i], text) == 0) {
            *ret = (enum role)i;
            return true;
        }
    }
    return false;
}

static void hash_token(const char *token, char hex[HASH_HEX])
{
    struct hash h = sha256_of(token, strlen(token));

    hash_hex(&h, hex);
}

static int store(struct db *d, const char *token, const char *name, enum role role,
                 int64_t expires_ms, struct err *err)
{
    char hex[HASH_HEX];

    hash_token(token, hex);
    return DB_EXEC(d, err,
                   "INSERT INTO token (hash, name, role, created_at, expires_at) "
                   "VALUES ($1, $2, $3, now_ms(), $4) ON CONFLICT (hash) DO NOTHING",
                   db_text(hex), db_text(name), db_text(role_text(role)),
                   expires_ms == 0 ? db_null() : db_int(expires_ms));
}

int token_make(struct db *d, const char *name, enum role role, int64_t expires_ms, struct buf *out,
               struct err *err)
{
    unsigned char random[32];
    char hex[2 * sizeof(random) + 1];
    AUTO_FREE char *token = NULL;
    int r;

    if (name[0] == '\0' || strlen(name) > TOKEN_NAME_MAX_BYTES)
        return err_set(err, ERR_INVALID, "name: 1 to %d bytes", TOKEN_NAME_MAX_BYTES);
    random_bytes(random, sizeof(random));
    hex_encode(hex, random, sizeof(random));
    token = mem_printf("dk_%s", hex);
    r = store(d, token, name, role, expires_ms, err);
    if (r == 0)
        buf_str_append(out, token);
    return r < 0 ? err_wrap(err, "make a token") : 0;
}

int token_check(struct db *d, const char *token, enum role *ret_role, struct buf *name,
                struct err *err)
{
    struct db_rows *rows = NULL;
    char hex[HASH_HEX];
    int r;

    if (strlen(token) > TOKEN_MAX_BYTES)
        return err_set(err, ERR_DENIED, "no such token");
    /* What is compared is a hash of 256 random bits: its timing tells nothing. */
    hash_token(token, hex);
    r = DB_ROWS(d, &rows, err,
                "SELECT name, role FROM token WHERE hash = $1 "
                "AND (expires_at IS NULL OR expires_at > now_ms())",
                db_text(hex));
    if (r == 0 && (db_rows_count(rows) == 0 || !role_parse(ret_role, db_get_text(rows, 0, 1))))
        r = err_set(err, ERR_DENIED, "no such token, or it has expired");
    if (r == 0)
        buf_str_append(name, db_get_text(rows, 0, 0));
    db_rows_free(rows);
    return r;
}

int token_admin_file(struct db *d, const char *path, struct buf *out, struct err *err)
{
    struct err why = ERR_INIT;
    int r = file_read(out, path, TOKEN_MAX_BYTES + 1, &why);

    if (r == 0) {
        while (out->len > 0 && out->data[out->len - 1] == '\n')
            out->data[--out->len] = '\0';
        /* The database may be new while the file is not. */
        return store(d, buf_str(out), "admin", ROLE_ADMIN, 0, err);
    }
    if (r != -ERR_NOT_FOUND)
        return err_set(err, why.code, "%s", why.text);
    r = token_make(d, "admin", ROLE_ADMIN, 0, out, err);
    if (r == 0) {
        AUTO_FREE char *line = mem_printf("%s\n", buf_str(out));

        r = file_publish(path, line, strlen(line), 0600, err);
    }
    return r;
}

char *actor_text(const char *claimed, const char *token_name)
{
    if (claimed == NULL || claimed[0] == '\0' || strcmp(claimed, token_name) == 0)
        return mem_strdup(token_name);
    return mem_printf("%s via %s", claimed, token_name);
}
