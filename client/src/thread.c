#include "thread.h"

#include <signal.h>
#include <time.h>

enum { MS_PER_S = 1000, NS_PER_MS = 1000000 };

int forge__thread_start(pthread_t *out, void *(*run)(void *), void *argument)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(out, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

bool forge__wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t until_ms)
{
    if (until_ms == UINT64_MAX)
        return pthread_cond_wait(condition, mutex) == 0;
    const struct timespec until = {.tv_sec = (time_t)(until_ms / MS_PER_S), .tv_nsec = (long)(until_ms % MS_PER_S) * NS_PER_MS};
    return pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &until) == 0;
}
