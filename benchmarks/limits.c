/* What this machine can do: the seconds of many operations of one kind.

   Build: cc -O3 -march=native -pthread limits.c -o limits -lm   (-ffast-math would
          rewrite what waits for what)
   Use:   limits WHAT COUNT THREADS   does COUNT of WHAT on each thread, and prints, as
          JSON, the seconds of all. WHAT is

          multiply-add         on vectors in registers
          tanh                 of tanh.h, of numbers that do not wait for each other
          byte                 read or written, of 8 MB, each thread having its part
          byte-of-memory       the same of 256 MB
          dependent-tanh       a tanh of the one before
          dependent-addition   to the sum before
          dependent-root       and a division by it, as Adam has it, of the one before */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tanh.h"
#include "threads.h"

#if defined __AVX512F__
enum { WIDTH = 16 };
#elif defined __AVX__
enum { WIDTH = 8 };
#else
enum { WIDTH = 4 };
#endif
typedef float Vector __attribute__((vector_size(WIDTH * sizeof(float))));

typedef struct {
  long count;
  int threads;
  float from;   /* what the compiler does not know */
  float result; /* which somebody wants, or nothing would be done */
} Job;

/* Twelve chains, since one alone would wait for its own results. */
static float multiply_adds(const Job *job) {
  Vector a = job->from + (Vector){0}, b = 1 - a;
  Vector x0 = a + 1, x1 = a + 2, x2 = a + 3, x3 = a + 4, x4 = a + 5, x5 = a + 6;
  Vector x6 = a + 7, x7 = a + 8, x8 = a + 9, x9 = -a, x10 = 2 * a, x11 = 3 * a;
  for (long i = 0; i < job->count; i += 12 * WIDTH) {
    x0 = x0 * a + b, x1 = x1 * a + b, x2 = x2 * a + b, x3 = x3 * a + b;
    x4 = x4 * a + b, x5 = x5 * a + b, x6 = x6 * a + b, x7 = x7 * a + b;
    x8 = x8 * a + b, x9 = x9 * a + b, x10 = x10 * a + b, x11 = x11 * a + b;
  }
  return (x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9 + x10 + x11)[0];
}

static float tanhs(const Job *job) {
  float x[1024];
  for (int k = 0; k < 1024; k++) x[k] = job->from + (float)k;
  for (long i = 0; i < job->count; i += 1024)
    for (int k = 0; k < 1024; k++) x[k] = rational_tanh(x[k]);
  return x[0];
}

static float bytes_of(const Job *job, long all) {
  long numbers = all / job->threads / (long)sizeof(float);
  float *x = calloc((size_t)numbers, sizeof(float));
  for (long i = 0; i < job->count; i += 2 * numbers * (long)sizeof(float)) {
    for (long k = 0; k < numbers; k++) x[k] += job->from;
    __asm__ volatile("" : : "r"(x) : "memory"); /* ends a pass before the next */
  }
  float result = x[numbers / 2];
  free(x);
  return result;
}

static float bytes(const Job *job) { return bytes_of(job, 8000000); }

static float bytes_of_memory(const Job *job) { return bytes_of(job, 256000000); }

static float dependent_tanhs(const Job *job) {
  float x = job->from;
  for (long i = 0; i < job->count; i++) x = rational_tanh(x);
  return x;
}

static float dependent_additions(const Job *job) {
  float x = job->from;
  for (long i = 0; i < job->count; i++) x += job->from;
  return x;
}

static float dependent_roots(const Job *job) {
  float x = job->from;
  for (long i = 0; i < job->count; i++) x = job->from / (sqrtf(x) + 1e-8f);
  return x;
}

static const struct {
  const char *name;
  float (*function)(const Job *);
} WHAT[] = {
    {"multiply-add", multiply_adds},
    {"tanh", tanhs},
    {"byte", bytes},
    {"byte-of-memory", bytes_of_memory},
    {"dependent-tanh", dependent_tanhs},
    {"dependent-addition", dependent_additions},
    {"dependent-root", dependent_roots},
};

static float (*function)(const Job *);

static void *run(void *argument) {
  Job *job = argument;
  job->result = function(job);
  return NULL;
}

int main(int argc, char **argv) {
  long count = argc == 4 ? atol(argv[2]) : 0;
  int threads = argc == 4 ? atoi(argv[3]) : 0;
  for (size_t i = 0; argc == 4 && i < sizeof WHAT / sizeof *WHAT; i++)
    if (!strcmp(argv[1], WHAT[i].name)) function = WHAT[i].function;
  if (!function || count < 1 || threads < 1 || threads > MOST_THREADS) {
    fprintf(stderr, "use: limits WHAT COUNT THREADS\n");
    return 2;
  }
  Job jobs[MOST_THREADS];
  for (int t = 0; t < threads; t++) jobs[t] = (Job){count, threads, 0.75f, 0};
  double seconds = on_threads(threads, run, jobs, sizeof(Job));
  printf("{\"seconds\": %.17g, \"result\": %.9g}\n", seconds, jobs[0].result);
  return 0;
}
