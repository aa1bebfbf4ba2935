#include "build/git_run.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "build/program.h"
#include "io/files.h"

enum { OUTPUT_MAX = 4 << 20, GRACE_MS = 5000, POINTER_MAX_BYTES = 4096, BORROWS_MAX = 5 };

#define FETCH_MAX_BYTES (64ULL << 30) /* of one file */

static bool has_control(const char *text)
{
    for (; *text != '\0'; text++) {
        if (iscntrl((unsigned char)*text))
            return true;
    }
    return false;
}

static bool is_repository(const char *dir)
{
    AUTO_FREE char *dot_git = mem_printf("%s/.git", dir);
    AUTO_FREE char *head = mem_printf("%s/HEAD", dir);
    AUTO_FREE char *objects = mem_printf("%s/objects", dir);

    return path_exists(dot_git) || (path_exists(head) && path_is_dir(objects));
}

static int parse_local(struct repo *ret, const char *path, struct err *err)
{
    AUTO_BUF real = BUF_INIT;

    if (path_real(&real, path, NULL) < 0 || !path_is_dir(real.data))
        return err_set(err, ERR_NOT_FOUND, "no directory %s", path);
    if (!is_repository(real.data))
        return err_set(err, ERR_NOT_FOUND, "%s is no git repository", path);
    ret->kind = REPO_LOCAL;
    ret->where = buf_steal(&real);
    return 0;
}

int repo_parse(struct repo *ret, const char *text, struct err *err)
{
    const char *scheme_end = strstr(text, "://");
    size_t first = strcspn(text, "/:");

    *ret = (struct repo){ REPO_NONE, NULL };
    if (text[0] == '\0' || text[0] == '-' || has_control(text))
        return err_set(err, ERR_INVALID, "'%.200s' names no repository", text);
    if (strncmp(text, "file:///", 8) == 0)
        return parse_local(ret, text + strlen("file://"), err);
    if (strncmp(text + first, "::", 2) == 0 ||
        (scheme_end != NULL && strncmp(text, "https://", 8) != 0 &&
         strncmp(text, "ssh://", 6) != 0))
        return err_set(err, ERR_INVALID,
                       "%.200s: protocol '%.*s' is not allowed: use https, ssh or a local path",
                       text, (int)first, text);
    if (scheme_end == NULL && (text[first] != ':' || path_exists(text)))
        return parse_local(ret, text, err);
    ret->kind = REPO_REMOTE;
    ret->where = mem_strdup(text);
    return 0;
}

void repo_release(struct repo *r)
{
    free(r->where);
    r->where = NULL;
}

/* Adds a directory that a file of the repository names, if it is there and the owner's. */
static void add_dir(const char *path, uid_t owner, struct argv *out)
{
    AUTO_BUF real = BUF_INIT;
    struct stat st;

    if (path_real(&real, path, NULL) == 0 && stat(real.data, &st) == 0 && S_ISDIR(st.st_mode) &&
        st.st_uid == owner)
        argv_add(out, real.data);
}

/* The first line of dir/name without its prefix, as a path; NULL if there is none. */
static char *read_path(const char *dir, const char *name, const char *prefix)
{
    AUTO_FREE char *file = mem_printf("%s/%s", dir, name);
    AUTO_BUF text = BUF_INIT;

    if (file_read(&text, file, POINTER_MAX_BYTES, NULL) < 0 ||
        strncmp(buf_str(&text), prefix, strlen(prefix)) != 0)
        return NULL;
    buf_consume(&text, strlen(prefix));
    text.data[strcspn(text.data, "\n")] = '\0';
    return text.data[0] == '/' ? mem_strdup(text.data) : mem_printf("%s/%s", dir, text.data);
}

/* Of a worktree .git is a file that names its own directory, which names the common one. */
static char *common_dir(const struct repo *r)
{
    AUTO_FREE char *own = read_path(r->where, ".git", "gitdir: ");
    AUTO_FREE char *dot_git = mem_printf("%s/.git", r->where);
    char *common;

    if (own == NULL)
        return mem_strdup(path_is_dir(dot_git) ? dot_git : r->where);
    common = read_path(own, "commondir", "");
    return common == NULL ? mem_strdup(own) : common;
}

void repo_add_dirs(const struct repo *r, struct argv *out)
{
    AUTO_FREE char *common = NULL;
    AUTO_FREE char *alternate = NULL;
    AUTO_FREE char *objects = NULL;
    struct stat st;

    if (r->kind != REPO_LOCAL || stat(r->where, &st) < 0)
        return;
    argv_add(out, r->where);
    common = common_dir(r);
    add_dir(common, st.st_uid, out);
    objects = mem_printf("%s/objects", common);
    for (int i = 0; i < BORROWS_MAX; i++) {
        alternate = read_path(objects, "info/alternates", "");
        if (alternate == NULL)
            return;
        add_dir(alternate, st.st_uid, out);
        free(objects);
        objects = alternate;
        alternate = NULL;
    }
}

int git_write_config(const char *path, const struct repo *r, struct err *err)
{
    AUTO_BUF where = BUF_INIT;
    AUTO_BUF text = BUF_INIT;

    if (r->kind == REPO_LOCAL) {
        for (const char *p = r->where; *p != '\0'; p++) {
            if (*p == '"' || *p == '\\')
                buf_char(&where, '\\');
            buf_char(&where, *p);
        }
        buf_printf(&text, "[safe]\n\tdirectory = \"%s\"\n\tdirectory = \"%s/.git\"\n", where.data,
                   where.data);
    }
    return file_publish(path, buf_str(&text), text.len, 0644, err);
}

static void make_env(struct argv *env, const struct git_run *g)
{
    static const char *const passed[] = { "PATH",          "HOME",        "SSH_AUTH_SOCK",
                                          "https_proxy",   "HTTPS_PROXY", "all_proxy",
                                          "ALL_PROXY",     "no_proxy",    "NO_PROXY",
                                          "SSL_CERT_FILE", "SSL_CERT_DIR" };

    for (size_t i = 0; i < COUNT_OF(passed); i++)
        argv_pass_env(env, passed[i]);
    argv_add(env, "LC_ALL=C");
    argv_add(env, "GIT_CONFIG_NOSYSTEM=1");
    argv_addf(env, "GIT_CONFIG_GLOBAL=%s", g->config);
    argv_add(env, "GIT_TERMINAL_PROMPT=0");
    argv_add(env, "GIT_ASKPASS=/bin/false");
    argv_add(env, "GIT_SSH_COMMAND=ssh -oBatchMode=yes");
    argv_add(env, "GIT_NO_REPLACE_OBJECTS=1");
    argv_add(env, "GIT_OPTIONAL_LOCKS=0");
    /* A partial clone would run the command that its configuration names to fetch what it lacks. */
    argv_add(env, "GIT_NO_LAZY_FETCH=1");
    argv_addf(env, "GIT_ALLOW_PROTOCOL=%s", g->repo->kind == REPO_LOCAL ? "file" : "https:ssh");
    /* Never look for a repository further up: what we are in may lie in somebody's clone. */
    if (g->repo->kind == REPO_LOCAL)
        argv_addf(env, "GIT_CEILING_DIRECTORIES=%.*s",
                  (int)(strrchr(g->repo->where, '/') - g->repo->where), g->repo->where);
    argv_add_all(env, g->env);
}

static void make_args(struct argv *args, const struct git_run *g)
{
    static const char *const settings[] = {
        "core.hooksPath=/dev/null",      "core.fsmonitor=false",
        "transfer.fsckObjects=true",     "gc.auto=0",
        "maintenance.auto=false",        "submodule.recurse=false",
        "fetch.recurseSubmodules=false", "protocol.version=2",
        "advice.detachedHead=false",
    };

    argv_add(args, "git");
    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        argv_add(args, "-c");
        argv_add(args, settings[i]);
    }
    if (g->dir != NULL) {
        argv_add(args, "-C");
        argv_add(args, g->dir);
    }
    argv_add_all(args, g->args);
}

struct words {
    const char *text;
    enum err_code code;
};

static const struct words known_words[] = {
    { "fsck error", ERR_INVALID }, /* an object that no honest git makes */
    { "not our ref", ERR_NOT_FOUND },
    { "couldn't find remote ref", ERR_NOT_FOUND },
    { "unadvertised object", ERR_NOT_FOUND },
    { "does not appear to be a git repository", ERR_NOT_FOUND },
    { "epository not found", ERR_NOT_FOUND },
    { "' not found", ERR_NOT_FOUND },
    { "uthentication failed", ERR_DENIED },
    { "ermission denied", ERR_DENIED },
    { "could not read Username", ERR_DENIED },
    { "ost key verification failed", ERR_DENIED },
    { "not allowed", ERR_DENIED },
    { "unable to access", ERR_UNREACHABLE },
    { "ould not resolve host", ERR_UNREACHABLE },
    { "onnection ", ERR_UNREACHABLE },
    { "timed out", ERR_UNREACHABLE },
    { "No space left", ERR_NO_SPACE },
};

/* The line that says why: the first "error:" or "fatal:", else the first of all. */
static int explain(const char *out, struct err *err)
{
    const char *fatal = strstr(out, "fatal: "), *line = strstr(out, "error: ");
    enum err_code code = ERR_IO;
    size_t len;

    if (line == NULL || (fatal != NULL && fatal < line))
        line = fatal;
    line = line == NULL ? out : line + strlen("fatal: ");
    len = strcspn(line, "\n");
    for (size_t i = 0; i < COUNT_OF(known_words) && code == ERR_IO; i++) {
        if (strstr(out, known_words[i].text) != NULL)
            code = known_words[i].code;
    }
    return err_set(err, code, "git: %.*s", (int)(len > 300 ? 300 : len),
                   len == 0 ? "failed without a word" : line);
}

struct capture {
    struct buf *out;
    size_t start;
};

static void keep(void *ctx, const void *data, size_t len)
{
    struct capture *c = ctx;
    size_t room = OUTPUT_MAX - (c->out->len - c->start);

    buf_append(c->out, data, len < room ? len : room);
}

int git_run(const struct git_run *g, struct buf *out, struct err *err)
{
    AUTO_ARGV env = ARGV_INIT;
    AUTO_ARGV args = ARGV_INIT;
    AUTO_ARGV wrapped = ARGV_INIT;
    struct capture capture = { out, out->len };
    struct program p = { .timeout_ms = g->timeout_ms,
                         .grace_ms = GRACE_MS,
                         .max_file_bytes = FETCH_MAX_BYTES,
                         .output = keep,
                         .ctx = &capture };
    int status = 0;
    int r;

    make_env(&env, g);
    make_args(&args, g);
    if (g->place != NULL) {
        sandbox_wrap(&wrapped, g->place->sandbox, g->view, args.items);
        p.lease = g->place->lease;
        p.tag = g->place->tag;
    }
    p.argv = g->place != NULL ? wrapped.items : args.items;
    p.env = env.items;
    r = program_run(&p, &status, err);
    if (r == -(int)ERR_NOT_FOUND) /* of the program, not of a commit */
        return err_set(err, ERR_INTERNAL, "git or bubblewrap is not installed on this host");
    if (r < 0)
        return err_wrap(err, "git");
    return status == 0 ? 0 : explain(buf_str(out) + capture.start, err);
}
