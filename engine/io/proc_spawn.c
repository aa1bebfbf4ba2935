/* Starting a program: everything that allocates or looks things up happens before fork(); between
 * fork() and exec() the child makes system calls only, because other threads may hold any lock. A
 * failure there travels back through a pipe that a successful exec closes. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/close_range.h>

#include "base/mem.h"
#include "io/proc.h"

extern char **environ;

enum child_step { STEP_NONE = 0, STEP_SETUP, STEP_DIR, STEP_EXEC };

struct child_failure {
    int step; /* enum child_step */
    int os_errno;
};

struct plan {
    const struct proc_options *o;
    char *program; /* argv[0], or what PATH made of it */
    char **env;
    int null_fd;
    int report_fd; /* write end, closed by exec */
    pid_t parent;
};

static const char *env_value(char *const *env, const char *name)
{
    size_t len = strlen(name);

    for (; *env != NULL; env++)
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
            return *env + len + 1;
    return NULL;
}

static bool is_program(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* Gives the path of argv[0]. Only absolute entries of PATH count: what a name means must not depend
 * on the working directory. */
static char *find_program(const char *name, char *const *env)
{
    const char *path = env_value(env, "PATH");

    if (strchr(name, '/') != NULL)
        return mem_strdup(name);
    if (path == NULL)
        path = "/usr/local/bin:/usr/bin:/bin";
    while (*path != '\0') {
        size_t len = strcspn(path, ":");

        if (*path == '/') {
            char *candidate = mem_printf("%.*s/%s", (int)len, path, name);

            if (is_program(candidate))
                return candidate;
            free(candidate);
        }
        path += len + (path[len] == ':');
    }
    return NULL;
}

/* The environment with the tag in place of an older one of the same name. Borrows the texts. */
static char **make_env(char *const *env, const char *tag)
{
    size_t count = 0, n = 0, name_len = tag == NULL ? 0 : strcspn(tag, "=") + 1;
    char **copy;

    while (env[count] != NULL)
        count++;
    copy = mem_calloc(count + 2, sizeof(*copy));
    for (size_t i = 0; i < count; i++)
        if (tag == NULL || strncmp(env[i], tag, name_len) != 0)
            copy[n++] = env[i];
    if (tag != NULL)
        memcpy(&copy[n], &tag, sizeof(tag)); /* exec takes char *, and does not write */
    return copy;
}

static _Noreturn void child_fail(const struct plan *p, enum child_step step)
{
    struct child_failure f = { (int)step, errno };
    ssize_t n = write(p->report_fd, &f, sizeof(f));

    _exit(n == (ssize_t)sizeof(f) ? 127 : 126);
}

/* Programs expect nothing blocked and nothing ignored, whatever the thread that spawns has. */
static void child_signals(void)
{
    struct sigaction dfl;
    sigset_t none;

    memset(&dfl, 0, sizeof(dfl));
    dfl.sa_handler = SIG_DFL;
    for (int i = 1; i < NSIG; i++)
        (void)sigaction(i, &dfl, NULL); /* KILL, STOP and libc's own refuse */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Puts the three standard descriptors in place. They may be any of 0, 1 and 2 in any order, so they
 * are copied out of the way first. */
static int child_stdio(const struct plan *p)
{
    int want[3] = { p->o->stdin_fd, p->o->stdout_fd, p->o->stderr_fd };

    for (int i = 0; i < 3; i++) {
        int fd = want[i] < 0 ? p->null_fd : want[i];

        want[i] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (want[i] < 0)
            return -1;
    }
    for (int i = 0; i < 3; i++)
        if (dup2(want[i], i) < 0)
            return -1;
    if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        return -1;
    if (p->o->keep_fd > 2 && fcntl(p->o->keep_fd, F_SETFD, 0) < 0)
        return -1;
    return 0;
}

static int child_limits(const struct plan *p)
{
    if (p->o->max_file_bytes > 0) {
        struct rlimit limit = { p->o->max_file_bytes, p->o->max_file_bytes };

        if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
            return -1;
    }
    if (p->o->die_with_parent) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
            return -1;
        if (getppid() != p->parent) /* it died before we asked */
            _exit(126);
    }
    return 0;
}

static _Noreturn void child_main(const struct plan *p)
{
    int rc = p->o->new_session ? (setsid() < 0 ? -1 : 0) : setpgid(0, 0);

    if (rc < 0 || child_limits(p) < 0 || child_stdio(p) < 0)
        child_fail(p, STEP_SETUP);
    child_signals();
    if (p->o->dir != NULL && chdir(p->o->dir) < 0)
        child_fail(p, STEP_DIR);
    execve(p->program, p->o->argv, p->env);
    child_fail(p, STEP_EXEC);
}

static int failure_of_child(const struct plan *p, const struct child_failure *f, struct err *err)
{
    switch ((enum child_step)f->step) {
    case STEP_DIR:
        return err_sys(err, f->os_errno, "start %s: enter %s", p->o->argv[0], p->o->dir);
    case STEP_EXEC:
        if (f->os_errno == ENOENT || f->os_errno == ENOTDIR)
            return err_set(err, ERR_NOT_FOUND, "%s: no such program", p->o->argv[0]);
        if (f->os_errno == EACCES || f->os_errno == ENOEXEC)
            return err_set(err, ERR_NOT_FOUND, "%s: not a program that can be executed: %s",
                           p->o->argv[0], strerror(f->os_errno));
        break;
    case STEP_SETUP:
    case STEP_NONE:
        break;
    }
    return err_sys(err, f->os_errno, "start %s", p->o->argv[0]);
}

/* Waits until the child has executed its program or told why not. */
static int await_exec(const struct plan *p, int report_fd, pid_t pid, struct err *err)
{
    struct child_failure f;
    ssize_t n;

    do
        n = read(report_fd, &f, sizeof(f));
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return 0;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    if (n != (ssize_t)sizeof(f))
        return err_set(err, ERR_INTERNAL, "start %s: child is gone", p->o->argv[0]);
    return failure_of_child(p, &f, err);
}

static int fork_and_await(pid_t *ret_pid, struct plan *p, struct err *err)
{
    int report[2];
    sigset_t all, old;
    pid_t pid;
    int rc;

    if (pipe2(report, O_CLOEXEC) < 0)
        return err_sys(err, errno, "start %s: pipe", p->o->argv[0]);
    /* Away from 0-2, which the child overwrites. */
    p->report_fd = fcntl(report[1], F_DUPFD_CLOEXEC, 3);
    close(report[1]);
    if (p->report_fd < 0) {
        rc = err_sys(err, errno, "start %s: pipe", p->o->argv[0]);
        close(report[0]);
        return rc;
    }
    /* No handler of ours may run in the child: it would write to pipes that we share. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid = fork();
    if (pid == 0)
        child_main(p);
    rc = pid < 0 ? err_sys(err, errno, "start %s: fork", p->o->argv[0]) : 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    close(p->report_fd);
    if (rc == 0)
        rc = await_exec(p, report[0], pid, err);
    close(report[0]);
    if (rc == 0)
        *ret_pid = pid;
    return rc;
}

int proc_spawn(pid_t *ret_pid, const struct proc_options *o, struct err *err)
{
    char *const *env = o->env != NULL ? o->env : environ;
    struct plan p = { .o = o, .parent = getpid(), .null_fd = -1 };
    int rc;

    if (o->argv == NULL || o->argv[0] == NULL || o->argv[0][0] == '\0')
        return err_set(err, ERR_INVALID, "start: empty command");
    if (o->tag != NULL && strchr(o->tag, '=') == NULL)
        return err_set(err, ERR_INVALID, "start %s: tag is not NAME=value", o->argv[0]);
    p.program = find_program(o->argv[0], env);
    if (p.program == NULL)
        return err_set(err, ERR_NOT_FOUND, "%s: no such program", o->argv[0]);
    p.env = make_env(env, o->tag);
    p.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (p.null_fd < 0) {
        rc = err_sys(err, errno, "start %s: open /dev/null", o->argv[0]);
    } else {
        rc = fork_and_await(ret_pid, &p, err);
        close(p.null_fd);
    }
    free(p.env);
    free(p.program);
    return rc;
}
