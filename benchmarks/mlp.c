/* Training a net of three layers as a C programmer would write it, every size known to
   the compiler: -DIN, -DA, -DB, -DOUT, -DROWS; all rows in every step.

   Tanh on all layers and the squared errors, their sum over -DDIVISOR; with -DHINGE relu
   on the hidden layers and such hinge losses. SGD with the rate -DRATE; with -DADAM
   Adam. tanhf; with -DINLINE_TANH the function in tanh.h, which needs no call.

   Build: cc -O3 -march=native -ffast-math -pthread -D... mlp.c -o mlp -lm
   Use:   mlp NETS STEPS THREADS < FLOATS   FLOATS are the inputs (IN x ROWS), the
          targets (OUT x ROWS), and what each net begins with, weights and biases layer by
          layer. Prints, as JSON, the seconds of all steps of all nets, and the sum of the
          nets' last losses. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tanh.h"
#include "threads.h"

typedef struct {
  float w1[IN][A], b1[A], w2[A][B], b2[B], w3[B][OUT], b3[OUT];
} Net;

enum { NUMBERS = sizeof(Net) / sizeof(float) };

/* Units first, rows last: the compiler vectorises over the rows. */
static float X[IN][ROWS], Y[OUT][ROWS];
static Net start;

#ifdef INLINE_TANH
#define TANH rational_tanh
#else
#define TANH tanhf
#endif
#define TANH_SLOPE(y) (1 - (y) * (y))

#ifdef HINGE
#define HIDDEN(z) ((z) > 0 ? (z) : 0)
#define HIDDEN_SLOPE(y) ((y) > 0 ? 1.0f : 0.0f)
#define LAST(z) (z)
#define LAST_SLOPE(y) 1.0f
#else
#define HIDDEN TANH
#define HIDDEN_SLOPE TANH_SLOPE
#define LAST TANH
#define LAST_SLOPE TANH_SLOPE
#endif

#define FORWARD(IN_, OUT_, w, b, x, y, F)                          \
  for (int j = 0; j < OUT_; j++) {                                 \
    for (int r = 0; r < ROWS; r++) y[j][r] = b[j];                 \
    for (int i = 0; i < IN_; i++)                                  \
      for (int r = 0; r < ROWS; r++) y[j][r] += x[i][r] * w[i][j]; \
  }                                                                \
  for (int k = 0; k < OUT_ * ROWS; k++) (&y[0][0])[k] = F((&y[0][0])[k]);

/* dy, dx, dw and db are the slopes of the loss; dy is there, the others come. */
#define BACKWARD(IN_, OUT_, w, x, y, dy, dx, dw, db, SLOPE) \
  for (int i = 0; i < IN_; i++)                             \
    for (int r = 0; r < ROWS; r++) dx[i][r] = 0;            \
  for (int j = 0; j < OUT_; j++) {                          \
    float dz[ROWS], sum = 0;                                \
    for (int r = 0; r < ROWS; r++) {                        \
      dz[r] = dy[j][r] * SLOPE(y[j][r]);                    \
      sum += dz[r];                                         \
    }                                                       \
    db[j] = sum;                                            \
    for (int i = 0; i < IN_; i++) {                         \
      sum = 0;                                              \
      for (int r = 0; r < ROWS; r++) {                      \
        dx[i][r] += dz[r] * w[i][j];                        \
        sum += dz[r] * x[i][r];                             \
      }                                                     \
      dw[i][j] = sum;                                       \
    }                                                       \
  }

typedef struct {
  Net net, m, v;
  float power1, power2; /* 0.9 and 0.999 to the power of the step */
} State;

static float step(State *s) {
  Net *n = &s->net, g;
  float h1[A][ROWS], h2[B][ROWS], y[OUT][ROWS];
  FORWARD(IN, A, n->w1, n->b1, X, h1, HIDDEN)
  FORWARD(A, B, n->w2, n->b2, h1, h2, HIDDEN)
  FORWARD(B, OUT, n->w3, n->b3, h2, y, LAST)
  float loss = 0, dy[OUT][ROWS], d2[B][ROWS], d1[A][ROWS], d0[IN][ROWS];
  for (int j = 0; j < OUT; j++)
    for (int r = 0; r < ROWS; r++) {
#ifdef HINGE
      float e = 1 - Y[j][r] * y[j][r];
      loss += e > 0 ? e / DIVISOR : 0;
      dy[j][r] = e > 0 ? -Y[j][r] / DIVISOR : 0;
#else
      float e = y[j][r] - Y[j][r];
      loss += e * e / DIVISOR;
      dy[j][r] = 2 * e / DIVISOR;
#endif
    }
  BACKWARD(B, OUT, n->w3, h2, y, dy, d2, g.w3, g.b3, LAST_SLOPE)
  BACKWARD(A, B, n->w2, h1, h2, d2, d1, g.w2, g.b2, HIDDEN_SLOPE)
  BACKWARD(IN, A, n->w1, X, h1, d1, d0, g.w1, g.b1, HIDDEN_SLOPE)
  float *p = (float *)n, *dp = (float *)&g;
#ifdef ADAM
  float *m = (float *)&s->m, *v = (float *)&s->v;
  s->power1 *= 0.9f;
  s->power2 *= 0.999f;
  float rate = RATE / (1 - s->power1), scale = 1 / (1 - s->power2);
  for (int k = 0; k < NUMBERS; k++) {
    m[k] = 0.9f * m[k] + 0.1f * dp[k];
    v[k] = 0.999f * v[k] + 0.001f * dp[k] * dp[k];
    p[k] -= rate * m[k] / (sqrtf(v[k] * scale) + 1e-8f);
  }
#else
  for (int k = 0; k < NUMBERS; k++) p[k] -= RATE * dp[k];
#endif
  return loss;
}

typedef struct {
  int nets, steps;
  double loss;
  float *losses;
} Job;

static void *run(void *argument) {
  Job *job = argument;
  for (int n = 0; n < job->nets; n++) {
    State state = {.net = start, .power1 = 1, .power2 = 1};
    for (int s = 0; s < job->steps; s++) job->losses[s] = step(&state);
    job->loss += job->losses[job->steps - 1];
  }
  return NULL;
}

static int were_read(void *floats, size_t count) {
  return fread(floats, sizeof(float), count, stdin) == count;
}

int main(int argc, char **argv) {
  int nets = 0, steps = 0, threads = 0;
  if (argc == 4) nets = atoi(argv[1]), steps = atoi(argv[2]), threads = atoi(argv[3]);
  if (nets < 1 || steps < 1 || threads < 1 || threads > MOST_THREADS ||
      !were_read(X, IN * ROWS) || !were_read(Y, OUT * ROWS) ||
      !were_read(&start, NUMBERS)) {
    fprintf(stderr, "use: mlp NETS STEPS THREADS < FLOATS\n");
    return 2;
  }
  Job jobs[MOST_THREADS] = {0};
  for (int t = 0; t < threads; t++) {
    jobs[t].nets = nets / threads + (t < nets % threads);
    jobs[t].steps = steps;
    jobs[t].losses = malloc(sizeof(float) * (size_t)steps);
  }
  double seconds = on_threads(threads, run, jobs, sizeof(Job)), loss = 0;
  for (int t = 0; t < threads; t++) loss += jobs[t].loss;
  printf("{\"seconds\": %.17g, \"loss\": %.9g}\n", seconds, loss);
  return 0;
}
