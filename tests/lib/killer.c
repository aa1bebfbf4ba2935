#include "lib/killer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

static _Noreturn void give_up(const char *what)
{
    perror(what);
    abort();
}

void *shared_memory(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        give_up("mmap");
    return p;
}

static bool is_write(long nr)
{
    return nr == SYS_write || nr == SYS_pwrite64;
}

static bool is_change(long nr, const uint64_t *args)
{
    static const long changes[] = {
        SYS_writev,    SYS_pwritev,  SYS_pwritev2,  SYS_mkdirat,   SYS_linkat,
        SYS_symlinkat, SYS_unlinkat, SYS_renameat,  SYS_renameat2, SYS_ftruncate,
        SYS_ioctl,     SYS_truncate, SYS_fallocate, SYS_fchmod,    SYS_fchmodat,
        SYS_fsync,     SYS_syncfs,   SYS_fdatasync, SYS_sendfile,  SYS_copy_file_range,
#ifdef __x86_64__
        SYS_mkdir,     SYS_link,     SYS_symlink,   SYS_unlink,    SYS_rmdir,
        SYS_rename,    SYS_chmod,    SYS_creat,
#endif
    };

    for (size_t i = 0; i < COUNT_OF(changes); i++) {
        if (nr == changes[i])
            return true;
    }
    return is_write(nr) || (nr == SYS_openat && (args[2] & (O_CREAT | O_TRUNC)) != 0);
}

/* Of the write that is about to be made. */
static void halve(pid_t pid)
{
#ifdef __x86_64__
    struct user_regs_struct regs;

    if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) < 0)
        give_up("PTRACE_GETREGS");
    regs.rdx /= 2;
    if (ptrace(PTRACE_SETREGS, pid, NULL, &regs) < 0)
        give_up("PTRACE_SETREGS");
#else
    (void)pid;
#endif
}

/* One that was killed meanwhile is told by waitpid(). */
static void go_on(pid_t pid, int signal_number)
{
    if (ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(uintptr_t)signal_number) < 0 && errno != ESRCH)
        give_up("PTRACE_SYSCALL");
}

struct hunt {
    pid_t child;
    size_t left;
    enum kill_how how;
    pid_t torn; /* the thread whose half write is under way */
};

/* A thread stands before or after a system call. True: now. */
static bool is_time(struct hunt *h, pid_t pid)
{
    struct __ptrace_syscall_info info = { 0 };

    if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info), &info) < 0)
        return false;
    if (info.op == PTRACE_SYSCALL_INFO_EXIT)
        return h->torn == pid;
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY || !is_change((long)info.entry.nr, info.entry.args) ||
        h->left-- > 0)
        return false;
    if (h->how == KILL_BEFORE || !is_write((long)info.entry.nr))
        return true;
    halve(pid);
    h->torn = pid;
    h->left = SIZE_MAX;
    return false;
}

static bool end_of(pid_t child, int status)
{
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return true;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return false;
    fprintf(stderr, "child %d: status %x\n", (int)child, (unsigned)status);
    abort();
}

static bool watch(struct hunt *h)
{
    for (;;) {
        int status = 0, deliver = 0;
        pid_t pid = waitpid(-1, &status, __WALL);

        if (pid < 0)
            give_up("waitpid");
        if (pid == h->child && !WIFSTOPPED(status))
            return end_of(pid, status);
        if (!WIFSTOPPED(status))
            continue;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            if (is_time(h, pid))
                kill(h->child, SIGKILL);
        } else if (status >> 16 == 0 && WSTOPSIG(status) != SIGSTOP) {
            deliver = WSTOPSIG(status);
        }
        go_on(pid, deliver);
    }
}

bool kill_at(size_t n, enum kill_how how, int (*body)(void *arg), void *arg)
{
    struct hunt h = { .left = n, .how = how };
    int status;

    h.child = fork();
    if (h.child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
            give_up("PTRACE_TRACEME");
        raise(SIGSTOP);
        _exit(body(arg) == 0 ? 0 : 1);
    }
    if (h.child < 0 || waitpid(h.child, &status, 0) != h.child)
        give_up("fork");
    if (ptrace(PTRACE_SETOPTIONS, h.child, NULL,
               (void *)(uintptr_t)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL |
                                   PTRACE_O_TRACECLONE)) < 0)
        give_up("PTRACE_SETOPTIONS");
    go_on(h.child, 0);
    return watch(&h);
}
