#include "store/workplace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/files.h"

void workplace_init(struct workplace *w, const char *out)
{
    w->out = mem_strdup(out);
    for (size_t len = strlen(out); len > 1 && w->out[len - 1] == '/'; len--)
        w->out[len - 1] = '\0';
    w->dir = mem_printf("%s.part", w->out);
    w->staging = mem_printf("%s/staging", w->dir);
    w->lock = -1;
}

static bool is_ours(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "staging") == 0 ||
           (strlen(name) == HASH_HEX - 1 && strspn(name, "0123456789abcdef") == HASH_HEX - 1);
}

static int check(const char *work, struct err *err)
{
    DIR *dir = opendir(work);
    const struct dirent *d;
    int r = 0;

    if (dir == NULL)
        return err_sys(err, errno, "open %s", work);
    while (r == 0 && (d = readdir(dir)) != NULL) {
        if (!is_ours(d->d_name))
            r = err_set(err, ERR_EXISTS, "%s: is needed for work, but holds %s: move it away", work,
                        d->d_name);
    }
    closedir(dir);
    return r;
}

bool workplace_is_left(const struct workplace *w)
{
    return path_exists(w->dir) && check(w->dir, NULL) == 0;
}

int workplace_open(struct workplace *w, struct err *err)
{
    if (dir_make(w->dir, 0755, err) < 0 || check(w->dir, err) < 0)
        return -(int)err->code;
    w->lock = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->lock < 0)
        return err_sys(err, errno, "open %s", w->dir);
    if (flock(w->lock, LOCK_EX | LOCK_NB) < 0)
        return err_set(err, ERR_CONFLICT, "%s: another process is at work there", w->dir);
    return 0;
}

int workplace_remove(struct workplace *w, struct err *err)
{
    return dir_remove(w->dir, err);
}

void workplace_close(struct workplace *w)
{
    if (w->lock >= 0)
        close(w->lock);
    free(w->out);
    free(w->dir);
    free(w->staging);
}

char *workplace_path(const struct workplace *w, const struct hash *artifact)
{
    char hex[HASH_HEX];

    return mem_printf("%s/%s", w->dir, hash_hex(artifact, hex));
}
