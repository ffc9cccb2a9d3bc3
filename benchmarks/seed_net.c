/* The limit: the seed's net [3, 4, 4, 1], tanh, squared error, SGD, on 4 rows, as a C
   programmer would write it, every size known to the compiler.

   Build: cc -O3 -march=native -ffast-math -pthread seed_net.c -o seed_net -lm
   Use:   seed_net NETS STEPS THREADS   prints, as JSON, the nanoseconds of a step of
          one net, wall-clock time / (NETS * STEPS), and the sum of the last losses. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROWS = 4, IN = 3, A = 4, B = 4, OUT = 1 };

typedef struct {
  float w1[IN][A], b1[A], w2[A][B], b2[B], w3[B][OUT], b3[OUT];
} Net;

/* Units first, rows last: the compiler vectorises over the rows. */
static const float X[IN][ROWS] = {
    {2.0f, 3.0f, 0.5f, 1.0f}, {3.0f, -1.0f, 1.0f, 1.0f}, {-1.0f, 0.5f, 1.0f, -1.0f}};
static const float Y[OUT][ROWS] = {{1.0f, -1.0f, -1.0f, 1.0f}};

#define FORWARD(IN_, OUT_, w, b, x, y)                        \
  for (int j = 0; j < OUT_; j++) {                            \
    for (int r = 0; r < ROWS; r++) y[j][r] = b[j];            \
    for (int i = 0; i < IN_; i++)                             \
      for (int r = 0; r < ROWS; r++) y[j][r] += x[i][r] * w[i][j]; \
  }                                                           \
  for (int k = 0; k < OUT_ * ROWS; k++) (&y[0][0])[k] = tanhf((&y[0][0])[k]);

/* dy holds dloss/dy on entry; dx gets dloss/dx from the weights before the update. */
#define BACKWARD(IN_, OUT_, w, b, x, y, dy, dx)               \
  for (int i = 0; i < IN_; i++)                               \
    for (int r = 0; r < ROWS; r++) dx[i][r] = 0;              \
  for (int j = 0; j < OUT_; j++) {                            \
    float dz[ROWS], db = 0;                                   \
    for (int r = 0; r < ROWS; r++) {                          \
      dz[r] = dy[j][r] * (1 - y[j][r] * y[j][r]);             \
      db += dz[r];                                            \
    }                                                         \
    b[j] -= rate * db;                                        \
    for (int i = 0; i < IN_; i++) {                           \
      float dw = 0;                                           \
      for (int r = 0; r < ROWS; r++) {                        \
        dx[i][r] += dz[r] * w[i][j];                          \
        dw += dz[r] * x[i][r];                                \
      }                                                       \
      w[i][j] -= rate * dw;                                   \
    }                                                         \
  }

static float step(Net *n, float rate) {
  float h1[A][ROWS], h2[B][ROWS], y[OUT][ROWS];
  FORWARD(IN, A, n->w1, n->b1, X, h1)
  FORWARD(A, B, n->w2, n->b2, h1, h2)
  FORWARD(B, OUT, n->w3, n->b3, h2, y)
  float loss = 0, dy[OUT][ROWS], d2[B][ROWS], d1[A][ROWS], d0[IN][ROWS];
  for (int r = 0; r < ROWS; r++) {
    float e = y[0][r] - Y[0][r];
    loss += e * e;
    dy[0][r] = 2 * e;
  }
  BACKWARD(B, OUT, n->w3, n->b3, h2, y, dy, d2)
  BACKWARD(A, B, n->w2, n->b2, h1, h2, d2, d1)
  BACKWARD(IN, A, n->w1, n->b1, X, h1, d1, d0)
  return loss;
}

typedef struct {
  int nets, steps, seed;
  double loss;
  float *losses;
} Job;

static void *run(void *argument) {
  Job *job = argument;
  unsigned state = 12345u + 977u * (unsigned)job->seed;
  for (int n = 0; n < job->nets; n++) {
    Net net;
    float *p = (float *)&net;
    for (size_t i = 0; i < sizeof net / sizeof *p; i++) {
      state = state * 1664525u + 1013904223u;
      p[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
    }
    for (int s = 0; s < job->steps; s++) job->losses[s] = step(&net, 0.05f);
    job->loss += job->losses[job->steps - 1];
  }
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "use: seed_net NETS STEPS THREADS\n");
    return 2;
  }
  int nets = atoi(argv[1]), steps = atoi(argv[2]), threads = atoi(argv[3]);
  if (nets < 1 || steps < 1 || threads < 1 || threads > 64) return 2;
  Job jobs[64] = {0};
  pthread_t ids[64];
  for (int t = 0; t < threads; t++) {
    jobs[t].nets = nets / threads + (t < nets % threads);
    jobs[t].steps = steps;
    jobs[t].seed = t;
    jobs[t].losses = malloc(sizeof(float) * (size_t)steps);
  }
  struct timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  for (int t = 0; t < threads; t++) pthread_create(&ids[t], NULL, run, &jobs[t]);
  double loss = 0;
  for (int t = 0; t < threads; t++) {
    pthread_join(ids[t], NULL);
    loss += jobs[t].loss;
  }
  clock_gettime(CLOCK_MONOTONIC, &b);
  double seconds = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
  printf("{\"nanoseconds_per_step\": %.4f, \"loss\": %.9g}\n",
         1e9 * seconds / nets / steps, loss);
  return 0;
}
