#include "build/sandbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "io/files.h"
#include "io/proc.h"

enum { PROBE_MS = 10000, PROBE_OUTPUT = 4096 };

/* Home directories, and what only root can read: a worker may be root's. */
static const char *const secret_dirs[] = { "/home",          "/root",          "/etc/ssl/private",
                                           "/etc/ssh",       "/etc/wireguard", "/var/backups",
                                           "/var/spool/cron" };
static const char *const secret_files[] = { "/etc/shadow", "/etc/gshadow", "/etc/shadow-",
                                            "/etc/gshadow-", "/etc/krb5.keytab" };

/* Homes of services, which hold what everybody needs too. */
static const char *const shared_dirs[] = { "/",        "/bin",      "/sbin",      "/usr",
                                           "/usr/bin", "/usr/sbin", "/usr/local", "/etc",
                                           "/lib",     "/var",      "/tmp",       "/opt" };

static void add2(struct argv *out, const char *option, const char *value)
{
    argv_add(out, option);
    argv_add(out, value);
}

static void mount_at(struct argv *out, const char *option, const char *from, const char *to)
{
    argv_add(out, option);
    argv_add(out, from);
    argv_add(out, to);
}

static void hide_path(struct argv *out, const char *path)
{
    if (path_is_dir(path))
        add2(out, "--tmpfs", path);
    else if (path_exists(path))
        mount_at(out, "--ro-bind", "/dev/null", path);
}

static void hide_below(struct argv *out, const char *dir, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        AUTO_FREE char *path = mem_printf("%s%s", dir, names[i]);

        hide_path(out, path);
    }
}

/* The home directory of whoever runs the worker may lie anywhere. */
static void hide_own_home(struct argv *out)
{
    AUTO_BUF home = BUF_INIT;

    if (getenv("HOME") == NULL || path_real(&home, getenv("HOME"), NULL) < 0)
        return;
    for (size_t i = 0; i < COUNT_OF(shared_dirs); i++) {
        if (strcmp(home.data, shared_dirs[i]) == 0)
            return;
    }
    hide_path(out, home.data);
}

static void hide(struct argv *out, const struct sandbox *s, bool secrets)
{
    if (!secrets) {
        hide_own_home(out);
        hide_below(out, "", secret_dirs, COUNT_OF(secret_dirs));
        hide_below(out, "", secret_files, COUNT_OF(secret_files));
    }
    hide_below(out, "", s->hide, s->nhide);
    if (s->work != NULL)
        add2(out, "--tmpfs", s->work);
}

/* /etc/resolv.conf is often a link into /run, which is hidden. */
static void show_resolver(struct argv *out)
{
    AUTO_BUF path = BUF_INIT;

    if (path_real(&path, "/etc/resolv.conf", NULL) == 0 && strncmp(path.data, "/run/", 5) == 0)
        mount_at(out, "--ro-bind", path.data, path.data);
}

static void show(struct argv *out, const char *option, const char *const *paths)
{
    for (; paths != NULL && *paths != NULL; paths++)
        mount_at(out, option, *paths, *paths);
}

/* What stands later lies over what stands before. */
static void isolate(struct argv *out, const struct sandbox *s, const struct sandbox_view *v)
{
    argv_add(out, "bwrap");
    argv_add(out, "--unshare-all");
    if (v != NULL && v->network)
        argv_add(out, "--share-net");
    argv_add(out, "--die-with-parent");
    argv_add(out, "--new-session");
    add2(out, "--cap-drop", "ALL");
    mount_at(out, "--ro-bind", "/", "/");
    add2(out, "--dev", "/dev");
    add2(out, "--proc", "/proc");
    add2(out, "--tmpfs", "/run");
    if (v == NULL) {
        add2(out, "--tmpfs", "/tmp");
        return;
    }
    if (v->network)
        show_resolver(out);
    argv_add(out, "--bind");
    argv_addf(out, "%s/tmp", v->folder);
    argv_add(out, "/tmp");
    hide(out, s, v->secrets);
    argv_add(out, "--bind");
    argv_addf(out, "%s/src", v->folder);
    argv_add(out, SANDBOX_SRC);
    argv_add(out, "--bind");
    argv_addf(out, "%s/home", v->folder);
    argv_add(out, SANDBOX_HOME);
    show(out, "--ro-bind", v->readable);
    show(out, "--bind", v->writable);
    argv_add(out, "--chdir");
    argv_addf(out, "%s/%s", SANDBOX_SRC, v->dir);
}

/* A fork bomb of a worker that is not root's ends here; one of root's at the step's time limit. */
static void run_inside(struct argv *out)
{
    argv_add(out, "--");
    argv_add(out, "prlimit");
    argv_addf(out, "--nproc=%d", SANDBOX_PROCESSES_MAX);
    argv_add(out, "--");
}

int sandbox_probe(const struct sandbox *s, struct err *err)
{
    AUTO_ARGV argv = ARGV_INIT;
    AUTO_BUF out = BUF_INIT;
    struct err why = ERR_INIT;
    struct proc_options o = { .stdin_fd = -1, .keep_fd = -1, .die_with_parent = true };
    int status = 0;
    int r;

    if (s->kind == SANDBOX_OFF)
        return 0;
    isolate(&argv, s, NULL);
    run_inside(&argv);
    argv_add(&argv, "/bin/true");
    o.argv = argv.items;
    r = proc_run(&o, PROBE_MS, PROBE_OUTPUT, &out, &status, &why);
    if (r == 0 && status == 0)
        return 0;
    while (out.len > 0 && out.data[out.len - 1] == '\n')
        out.data[--out.len] = '\0';
    return err_set(err, ERR_DENIED,
                   "builds cannot be isolated on this host (%s): allow bubblewrap to make user "
                   "namespaces, or build without isolation by --sandbox none",
                   r < 0 ? why.text : buf_str(&out));
}

void sandbox_wrap(struct argv *out, const struct sandbox *s, const struct sandbox_view *v,
                  char *const *argv)
{
    if (s->kind != SANDBOX_OFF) {
        isolate(out, s, v);
        run_inside(out);
    }
    argv_add_all(out, argv);
}

char *sandbox_home(const struct sandbox *s, const struct sandbox_view *v)
{
    return s->kind == SANDBOX_OFF ? mem_printf("%s/home", v->folder) : mem_strdup(SANDBOX_HOME);
}

char *sandbox_src(const struct sandbox *s, const struct sandbox_view *v)
{
    return s->kind == SANDBOX_OFF ? mem_printf("%s/src", v->folder) : mem_strdup(SANDBOX_SRC);
}

char *sandbox_tmp(const struct sandbox *s, const struct sandbox_view *v)
{
    return s->kind == SANDBOX_OFF ? mem_printf("%s/tmp", v->folder) : mem_strdup("/tmp");
}
