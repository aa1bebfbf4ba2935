#include "io/proc.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hex.h"
#include "base/mem.h"

struct fix {
    struct loop *loop;
    int status, calls;
};

static int setup(void **state)
{
    static struct fix f;

    memset(&f, 0, sizeof(f));
    assert_int_equal(loop_new(&f.loop, NULL), 0);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    loop_free(((struct fix *)*state)->loop);
    return 0;
}

static struct proc_options options(char *const *argv)
{
    return (struct proc_options){
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .keep_fd = -1
    };
}

/* Runs a shell text; the answer is its wait status. */
static int run_sh(char *text, struct proc_options *o, int64_t timeout_ms, size_t max,
                  struct buf *out, struct err *err, int *ret_status)
{
    char sh[] = "/bin/sh", c[] = "-c";
    char *argv[] = { sh, c, text, NULL };

    o->argv = argv;
    return proc_run(o, timeout_ms, max, out, ret_status, err);
}

static void output_of_both_is_captured(void **state)
{
    struct proc_options o = options(NULL);
    AUTO_BUF out = BUF_INIT;
    char text[] = "echo out; echo err >&2; read line && echo got; exit 3";
    int status = 0;

    (void)state;
    assert_int_equal(run_sh(text, &o, 10000, 1000, &out, NULL, &status), 0);
    assert_string_equal(buf_str(&out), "out\nerr\n"); /* stdin is /dev/null */
    assert_int_equal(WEXITSTATUS(status), 3);
}

static void environment_and_directory_are_what_is_named(void **state)
{
    struct proc_options o = options(NULL);
    AUTO_BUF out = BUF_INIT;
    char a[] = "A=1", path[] = "PATH=/usr/bin:/bin", tag_old[] = "TAG=old";
    char *env[] = { a, path, tag_old, NULL };
    char text[] = "pwd; env | grep -v -e '^PWD=' -e '^_=' -e '^SHLVL=' -e ^OLDPWD= | sort";
    int status = 0;

    (void)state;
    o.env = env;
    o.dir = "/usr";
    o.tag = "TAG=new";
    assert_int_equal(run_sh(text, &o, 10000, 1000, &out, NULL, &status), 0);
    assert_string_equal(buf_str(&out), "/usr\nA=1\nPATH=/usr/bin:/bin\nTAG=new\n");
}

static void other_descriptors_are_closed(void **state)
{
    struct proc_options o = options(NULL);
    AUTO_BUF out = BUF_INIT;
    AUTO_BUF expect = BUF_INIT;
    char text[] = "for f in /proc/$$/fd/*; do echo ${f##*/}; done";
    int status = 0, leak = dup(2), keep = dup(2);

    (void)state;
    keep = fcntl(keep, F_DUPFD, 20);
    assert_int_equal(fcntl(leak, F_GETFD), 0); /* inheritable, and yet not inherited */
    o.keep_fd = keep;
    assert_int_equal(run_sh(text, &o, 10000, 1000, &out, NULL, &status), 0);
    buf_printf(&expect, "0\n1\n2\n%d\n", keep);
    /* dash lists the directory through a descriptor of its own */
    assert_int_equal(strncmp(buf_str(&out), "0\n1\n", 4), 0);
    assert_non_null(strstr(buf_str(&out), strrchr(expect.data, '2')));
    for (const char *at = buf_str(&out); *at != '\0'; at = strchr(at, '\n') + 1)
        assert_int_not_equal(atoi(at), leak > 3 ? leak : -1);
    close(leak);
    close(keep);
}

static void signals_are_default_in_the_child(void **state)
{
    struct proc_options o = options(NULL);
    AUTO_BUF out = BUF_INIT;
    char text[] = "grep -e SigBlk -e SigIgn /proc/self/status; kill -PIPE $$; echo alive";
    const char *ignored;
    int status = 0;

    (void)state;
    assert_int_equal(run_sh(text, &o, 10000, 1000, &out, NULL, &status), 0);
    assert_non_null(strstr(buf_str(&out), "SigBlk:\t0000000000000000\n"));
    ignored = strstr(buf_str(&out), "SigIgn:\t");
    assert_non_null(ignored);
    /* 32 and 33 belong to glibc, whose posix_spawn() leaves them ignored; nobody can set them. */
    assert_int_equal(strtoull(ignored + 8, NULL, 16) & 0x7fffffff, 0);
    assert_int_equal(WTERMSIG(status), SIGPIPE);
}

static void too_much_output_is_a_limit(void **state)
{
    struct proc_options o = options(NULL);
    AUTO_BUF out = BUF_INIT;
    struct err err = ERR_INIT;
    char text[] = "while :; do echo 0123456789; done";
    int status = 0;

    (void)state;
    assert_int_equal(run_sh(text, &o, 20000, 1000, &out, &err, &status), -ERR_LIMIT);
    assert_int_equal(out.len, 1000);
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void large_output_within_the_limit(void **state)
{
    struct proc_options o = options(NULL);
    AUTO_BUF out = BUF_INIT;
    char text[] = "head -c 1000000 /dev/zero";
    int status = 0;

    (void)state;
    assert_int_equal(run_sh(text, &o, 20000, 1000000, &out, NULL, &status), 0);
    assert_int_equal(out.len, 1000000);
}

static void fresh_tag(char out[64])
{
    unsigned char salt[8];
    char hex[17];

    random_bytes(salt, sizeof(salt));
    hex_encode(hex, salt, sizeof(salt));
    snprintf(out, 64, "TEST_PROC_TAG=%s", hex);
}

/* The shell starts a grandchild in its group and one in a session of its own, tells their pids, and
 * hangs. */
static void deadline_kills_the_whole_tree(void **state)
{
    struct proc_options o = options(NULL);
    AUTO_BUF out = BUF_INIT;
    struct err err = ERR_INIT;
    struct proc_id id[2];
    char tag[64];
    char text[] = "sleep 1000 & echo $!; setsid sh -c 'echo $$; exec sleep 1000' & wait";
    int status = 0, pids[2];

    (void)state;
    fresh_tag(tag);
    o.tag = tag;
    assert_int_equal(run_sh(text, &o, 700, 1000, &out, &err, &status), -ERR_TIMEOUT);
    assert_int_equal(WTERMSIG(status), SIGKILL);
    assert_int_equal(sscanf(buf_str(&out), "%d %d", &pids[0], &pids[1]), 2);
    for (int i = 0; i < 2; i++)
        if (proc_identify(&id[i], pids[i], NULL) == 0)
            assert_false(proc_is_alive(&id[i])); /* a zombie until init reaps it */
}

static void ended_in_time_leaves_daemons_alone(void **state)
{
    struct proc_options o = options(NULL);
    AUTO_BUF out = BUF_INIT;
    struct proc_id id;
    char tag[64];
    char text[] = "setsid sleep 1000 & echo $!";
    int status = 0;

    (void)state;
    fresh_tag(tag);
    o.tag = tag;
    assert_int_equal(run_sh(text, &o, 20000, 1000, &out, NULL, &status), 0);
    assert_int_equal(proc_identify(&id, atoi(buf_str(&out)), NULL), 0);
    assert_true(proc_is_alive(&id));
    proc_kill_tagged(tag);
    assert_false(proc_is_alive(&id));
}

static void what_cannot_be_executed_is_told(void **state)
{
    static const struct {
        const char *argv0, *dir;
        int code;
        const char *text;
    } cases[] = {
        { "no-such-program", NULL, ERR_NOT_FOUND, "no-such-program: no such program" },
        { "/no/such/program", NULL, ERR_NOT_FOUND, "/no/such/program: no such program" },
        { "/etc/passwd", NULL, ERR_NOT_FOUND, "/etc/passwd: not a program" },
        { "/etc", NULL, ERR_NOT_FOUND, "/etc: not a program" },
        { "true", "/no/such/dir", ERR_NOT_FOUND, "start true: enter /no/such/dir" },
        { "", NULL, ERR_INVALID, "empty command" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *argv[] = { mem_strdup(cases[i].argv0), NULL };
        struct proc_options o = options(argv);
        struct err err = ERR_INIT;
        pid_t pid = 0;

        o.dir = cases[i].dir;
        assert_int_equal(proc_spawn(&pid, &o, &err), -cases[i].code);
        assert_non_null(strstr(err.text, cases[i].text));
        assert_int_equal(pid, 0);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie */
        free(argv[0]);
    }
}

static void relative_path_entries_do_not_count(void **state)
{
    char name[] = "sh", path[] = "PATH=:.:bin", tag[] = "NOEQUALS";
    char *argv[] = { name, NULL }, *env[] = { path, NULL };
    struct proc_options o = options(argv);
    struct err err = ERR_INIT;
    pid_t pid;

    (void)state;
    o.env = env;
    o.dir = "/bin";
    assert_int_equal(proc_spawn(&pid, &o, &err), -ERR_NOT_FOUND);
    o.tag = tag;
    assert_int_equal(proc_spawn(&pid, &o, &err), -ERR_INVALID);
}

static void file_size_limit(void **state)
{
    struct proc_options o = options(NULL);
    AUTO_BUF out = BUF_INIT;
    char text[] = "ulimit -f";
    int status = 0;

    (void)state;
    o.max_file_bytes = 1024 * 1024;
    assert_int_equal(run_sh(text, &o, 20000, 1000, &out, NULL, &status), 0);
    assert_string_equal(buf_str(&out), "2048\n"); /* in units of 512 */
}

static void groups_and_sessions(void **state)
{
    char sleep_[] = "sleep", secs[] = "1000";
    char *argv[] = { sleep_, secs, NULL };

    (void)state;
    for (int session = 0; session < 2; session++) {
        struct proc_options o = options(argv);
        int status;
        pid_t pid;

        o.new_session = session;
        o.die_with_parent = true;
        assert_int_equal(proc_spawn(&pid, &o, NULL), 0);
        assert_int_equal(getpgid(pid), pid);
        assert_int_equal(getsid(pid), session ? pid : getsid(0));
        proc_kill_group(pid, SIGTERM);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(WTERMSIG(status), SIGTERM);
    }
    proc_kill_group(1, SIGTERM); /* refused: would be every process */
    proc_kill_group(0, SIGTERM);
}

struct watched {
    struct proc_watch w;
    struct fix *f;
};

static void on_end(struct proc_watch *w, int status)
{
    struct watched *x = CONTAINER_OF(w, struct watched, w);

    x->f->status = status;
    x->f->calls++;
    loop_stop(x->f->loop);
}

static void watch_tells_the_status_of_a_child(void **state)
{
    char sh[] = "sh", c[] = "-c", text[] = "exit 7";
    char *argv[] = { sh, c, text, NULL };
    struct proc_options o = options(argv);
    struct watched x = { .f = *state };
    pid_t pid;

    assert_int_equal(proc_spawn(&pid, &o, NULL), 0);
    assert_int_equal(proc_watch_start(x.f->loop, &x.w, pid, on_end, NULL), 0);
    loop_run(x.f->loop);
    assert_int_equal(x.f->calls, 1);
    assert_int_equal(WEXITSTATUS(x.f->status), 7);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), -1); /* reaped */
}

static void on_kill(struct timer *t)
{
    pid_t *pid = (pid_t *)(void *)(t + 1);

    kill(*pid, SIGKILL);
}

/* A process that is not our child: a shell starts it, tells its pid, and ends. */
static void adopted_process_is_watched(void **state)
{
    struct watched x = { .f = *state };
    struct proc_options o = options(NULL);
    AUTO_BUF out = BUF_INIT;
    char text[] = "setsid sleep 1000 & echo $!";
    struct {
        struct timer t;
        pid_t pid;
    } killer = { 0 };
    struct proc_id id;
    int status;

    assert_int_equal(run_sh(text, &o, 20000, 1000, &out, NULL, &status), 0);
    killer.pid = atoi(buf_str(&out));
    assert_int_equal(proc_identify(&id, killer.pid, NULL), 0);
    assert_int_equal(proc_watch_start(x.f->loop, &x.w, killer.pid, on_end, NULL), 0);
    timer_start(x.f->loop, &killer.t, 10, 0, on_kill);
    loop_run(x.f->loop);
    assert_int_equal(x.f->calls, 1);
    assert_int_equal(x.f->status, -1);
    assert_false(proc_is_alive(&id));
}

static void watching_a_dead_process_fails(void **state)
{
    struct watched x = { .f = *state };
    struct err err = ERR_INIT;
    struct proc_id id;
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(proc_watch_start(x.f->loop, &x.w, pid, on_end, &err), -ERR_NOT_FOUND);
    assert_int_equal(proc_identify(&id, pid, &err), -ERR_NOT_FOUND);
    proc_watch_stop(&x.w); /* harmless */
}

static void identity_survives_pid_reuse(void **state)
{
    struct proc_id id;

    (void)state;
    assert_int_equal(proc_identify(&id, getpid(), NULL), 0);
    assert_true(proc_is_alive(&id));
    id.start_ticks++;
    assert_false(proc_is_alive(&id));
}

static void exits_with_parent(void **state)
{
    int fds[2], status;
    pid_t pid;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        struct loop *l;

        close(fds[1]);
        if (loop_new(&l, NULL) == 0 && proc_exit_with_parent(l, fds[0], NULL) == 0)
            loop_run(l);
        _exit(9);
    }
    close(fds[0]);
    assert_int_equal(write(fds[1], "x", 1), 1); /* bytes are no end */
    close(fds[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(proc_exit_with_parent(((struct fix *)*state)->loop, 12345, NULL), -ERR_IO);
}

static void status_in_words(void **state)
{
    static const struct {
        int status;
        const char *text;
    } cases[] = {
        { 3 << 8, "exit status 3" },
        { 9, "killed by signal 9 (Killed)" },
        { 11 | 0x80, "killed by signal 11 (Segmentation fault)" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        AUTO_BUF out = BUF_INIT;

        proc_status_text(&out, cases[i].status);
        assert_string_equal(buf_str(&out), cases[i].text);
    }
}

static void boot_id_is_a_uuid(void **state)
{
    (void)state;
    assert_int_equal(strlen(proc_boot_id()), 36);
    assert_ptr_equal(proc_boot_id(), proc_boot_id());
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(output_of_both_is_captured),
        T(environment_and_directory_are_what_is_named),
        T(other_descriptors_are_closed),
        T(signals_are_default_in_the_child),
        T(too_much_output_is_a_limit),
        T(large_output_within_the_limit),
        T(deadline_kills_the_whole_tree),
        T(ended_in_time_leaves_daemons_alone),
        T(what_cannot_be_executed_is_told),
        T(relative_path_entries_do_not_count),
        T(file_size_limit),
        T(groups_and_sessions),
        T(watch_tells_the_status_of_a_child),
        T(adopted_process_is_watched),
        T(watching_a_dead_process_fails),
        T(identity_survives_pid_reuse),
        T(exits_with_parent),
        T(status_in_words),
        T(boot_id_is_a_uuid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
