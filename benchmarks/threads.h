#include <pthread.h>
#include <stddef.h>
#include <time.h>

enum { MOST_THREADS = 64 };

/* Run each of the jobs, `size` bytes apart, on a thread; return the seconds of all. */
static double on_threads(int threads, void *(*run)(void *), void *jobs, size_t size) {
  pthread_t ids[MOST_THREADS];
  struct timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  for (int t = 0; t < threads; t++)
    pthread_create(&ids[t], NULL, run, (char *)jobs + (size_t)t * size);
  for (int t = 0; t < threads; t++) pthread_join(ids[t], NULL);
  clock_gettime(CLOCK_MONOTONIC, &b);
  return (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
}
