/* Threads of the library, and waiting on their conditions. */
#ifndef FORGE_CLIENT_THREAD_H
#define FORGE_CLIENT_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* With every signal blocked: they are for the threads of the service. As pthread_create. */
int forge__thread_start(pthread_t *out, void *(*run)(void *), void *argument);
/* One wait, at most until this time of CLOCK_MONOTONIC (UINT64_MAX = without limit). False when the time is over. */
bool forge__wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t until_ms);

#endif
