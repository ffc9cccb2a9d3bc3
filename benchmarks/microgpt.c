/* Training microgpt's net as a C programmer would write it, every size known to the
   compiler: one block, rms_norm, relu, no biases, logits by the embedding; -DVOCAB,
   -DHEADS and -DROWS, a context and a width of 16. SGD with the rate -DRATE; with -DADAM
   Adam, and the decay -DDECAY of all parameters.

   A row of 16 tokens is one vector register: what a unit is at all of its positions. So
   norms, the softmax over keys and that over tokens are sums of registers. Gradients of
   weights add over positions, and need one of their factors transposed.

   Build: cc -O3 -march=native -ffast-math -pthread -D... microgpt.c -o microgpt -lm
   Use:   microgpt NETS STEPS THREADS < NUMBERS   NUMBERS are the parameters that each
          net begins with, as funcgrad.GptParams has them in order, and then, as int32,
          the rows of each step, 17 tokens each: 16 are read and 16 foretold, but for
          those that are -1. Prints, as JSON, the seconds of all steps of all nets, and
          the sum of the nets' last losses. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "threads.h"

#define EACH(i, n) for (int i = 0; i < (n); i++)
#define INLINE static inline __attribute__((always_inline))

enum { T = 16, WIDTH = 16, HEAD = WIDTH / HEADS, UP = 4 * WIDTH };
enum { PADDED = (VOCAB + 7) / 8 * 8 }; /* what is behind the vocabulary stays 0 */

typedef float Lanes __attribute__((vector_size(64), may_alias));
typedef int32_t Ints __attribute__((vector_size(64), may_alias));

typedef struct {
  float tokens[PADDED][WIDTH], positions[T][WIDTH];
  float attention_norm[WIDTH], qkv[WIDTH][3 * WIDTH], out[WIDTH][WIDTH];
  float feed_norm[WIDTH], up[WIDTH][UP], down[UP][WIDTH], norm[WIDTH];
} __attribute__((aligned(64))) Net;

enum { NUMBERS = sizeof(Net) / sizeof(float) };
enum { AFTER_TOKENS = NUMBERS - PADDED * WIDTH };

typedef int32_t Rows[ROWS][T + 1];

static Net start;
static Rows *rows_of_step;
static Ints sees[T]; /* sees[s][t]: whether position t sees that at s */

INLINE Lanes chosen(Ints is_first, Lanes a, Lanes b) {
  return (Lanes)(((Ints)a & is_first) | ((Ints)b & ~is_first));
}

INLINE Lanes larger(Lanes a, Lanes b) { return chosen(a > b, a, b); }

/* exp(x) for x <= 0: 2^n exp(r) with |r| <= ln 2 / 2, by Taylor's polynomial. */
INLINE Lanes exps(Lanes x) {
  x = larger(x, x * 0 - 87);
  Ints n = __builtin_convertvector(x * 1.44269504f - 0.5f, Ints);
  Lanes whole = __builtin_convertvector(n, Lanes);
  Lanes r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
  Lanes y = r * (1.0f / 5040) + 1.0f / 720;
  y = y * r + 1.0f / 120;
  y = y * r + 1.0f / 24;
  y = y * r + 1.0f / 6;
  y = y * r + 0.5f;
  y = y * r + 1;
  y = y * r + 1;
  return (Lanes)((Ints)y + (n << 23));
}

/* Shuffling two halves into each other moves each index's bits up by one; so four
   times exchange that of the register and that within it. */
INLINE void transpose(const Lanes *x, Lanes *y) {
  const Ints low = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
  Lanes a[T], b[T];
  EACH(i, T) a[i] = x[i];
#pragma GCC unroll 4
  EACH(round, 4) {
#pragma GCC unroll 8
    EACH(i, 8) {
      b[2 * i] = __builtin_shuffle(a[i], a[i + 8], low);
      b[2 * i + 1] = __builtin_shuffle(a[i], a[i + 8], low + 8);
    }
#pragma GCC unroll 16
    EACH(i, T) a[i] = b[i];
  }
  EACH(i, T) y[i] = a[i];
}

/* y[o] = sum over i of w[o * by_out + i * by_in] * x[i], or added to y; so many o at
   once, whose sums stay in registers, and y's are `apart`. */
INLINE void product(int outs, int ins, const void *weights, int by_out, int by_in,
                    const Lanes *x, Lanes *y, int apart, int adds, int at_once) {
  const float *w = weights;
  for (int o = 0; o < outs; o += at_once) {
    Lanes sum[16];
#pragma GCC unroll 16
    EACH(k, at_once) sum[k] = adds ? y[(o + k) * apart] : (Lanes){0};
    EACH(i, ins) {
#pragma GCC unroll 16
      EACH(k, at_once) sum[k] += w[(o + k) * by_out + i * by_in] * x[i];
    }
#pragma GCC unroll 16
    EACH(k, at_once) y[(o + k) * apart] = sum[k];
  }
}

/* y = x w and dx = dy w^T, for w of (ins, outs); and dw += x^T dy. */
INLINE void forward(int ins, int outs, const void *w, const Lanes *x, Lanes *y) {
  product(outs, ins, w, 1, outs, x, y, 1, 0, 8);
}

INLINE void backward(int ins, int outs, const void *w, const Lanes *x, const Lanes *dy,
                     Lanes *dx, void *dw) {
  product(ins, outs, w, outs, 1, dy, dx, 1, 0, 8);
  EACH(b, outs / 16) {
    Lanes across[T];
    transpose(dy + 16 * b, across);
    product(ins, T, x, T, 1, across, (Lanes *)dw + b, outs / 16, 1, 8);
  }
}

/* y = gain x / sqrt(mean(x^2) + 1e-5); returns one over the root. */
INLINE Lanes norm(const float *gain, const Lanes *x, Lanes *y) {
  Lanes sum = {0}, scale[1];
  EACH(i, WIDTH) sum += x[i] * x[i];
  *scale = sum / WIDTH + 1e-5f;
  EACH(t, T) ((float *)scale)[t] = 1 / sqrtf(((float *)scale)[t]);
  EACH(i, WIDTH) y[i] = gain[i] * *scale * x[i];
  return *scale;
}

/* dx += the slopes of that, and dgain, whose lanes are still to be added, too. */
INLINE void norm_back(const float *gain, const Lanes *x, Lanes scale, const Lanes *dy,
                      Lanes *dx, Lanes *dgain) {
  Lanes sum = {0};
  EACH(i, WIDTH) {
    Lanes z = dy[i] * x[i] * scale;
    dgain[i] += z;
    sum += gain[i] * z;
  }
  sum *= scale * scale / WIDTH;
  EACH(i, WIDTH) dx[i] += gain[i] * scale * dy[i] - sum * x[i];
}

typedef struct {
  Lanes attention_norm[WIDTH], feed_norm[WIDTH], norm[WIDTH];
} Gains;

/* Add the slopes of the loss of a row to those of the net; return the loss. Each token
   foretold counts `weight`. */
static float row_of(const Net *net, const int32_t *row, float weight, Net *slopes,
                    Gains *gains) {
  Lanes across[T], x0[WIDTH], n0[WIDTH], qkv[3 * WIDTH], seen[WIDTH], x1[WIDTH];
  Lanes p[HEADS][T], n1[WIDTH], up[UP], x2[WIDTH], n2[WIDTH], logits[PADDED];
  const Lanes *q = qkv, *k = qkv + WIDTH, *v = qkv + 2 * WIDTH;
  const float scale = 1 / sqrtf(HEAD);
  EACH(t, T) {
    int token = row[t] < 0 ? 0 : row[t];
    across[t] = *(Lanes *)net->tokens[token] + *(Lanes *)net->positions[t];
  }
  transpose(across, x0);
  Lanes scale0 = norm(net->attention_norm, x0, n0);
  forward(WIDTH, 3 * WIDTH, net->qkv, n0, qkv);
  EACH(h, HEADS) {
    Lanes most = x0[0] * 0 - 1e30f, sum = {0};
    product(T, HEAD, k + h * HEAD, 1, T, q + h * HEAD, p[h], 1, 0, 8);
    EACH(s, T) most = chosen(sees[s], larger(p[h][s], most), most);
    EACH(s, T) {
      Lanes e = exps((p[h][s] - most) * scale);
      sum += p[h][s] = (Lanes)((Ints)e & sees[s]);
    }
    EACH(s, T) p[h][s] /= sum;
    product(HEAD, T, v + h * HEAD, T, 1, p[h], seen + h * HEAD, 1, 0, HEAD);
  }
  forward(WIDTH, WIDTH, net->out, seen, x1);
  EACH(i, WIDTH) x1[i] += x0[i];
  Lanes scale1 = norm(net->feed_norm, x1, n1);
  forward(WIDTH, UP, net->up, n1, up);
  EACH(i, UP) up[i] = larger(up[i], up[i] * 0);
  forward(UP, WIDTH, net->down, up, x2);
  EACH(i, WIDTH) x2[i] += x1[i];
  Lanes scale2 = norm(net->norm, x2, n2);
  product(PADDED, WIDTH, net->tokens, WIDTH, 1, n2, logits, 1, 0, 8);

  Lanes most = logits[0], sum = {0}, counts[1], of_target[1], logs[1];
  EACH(i, VOCAB) most = larger(most, logits[i]);
  EACH(t, T) {
    int target = row[t + 1];
    ((float *)counts)[t] = target < 0 ? 0 : weight;
    ((float *)of_target)[t] = ((float *)logits)[(target < 0 ? 0 : target) * T + t];
  }
  EACH(i, PADDED) {
    logits[i] = i < VOCAB ? exps(logits[i] - most) : (Lanes){0};
    sum += logits[i];
  }
  *logs = sum;
  EACH(t, T) ((float *)logs)[t] = logf(((float *)logs)[t]);
  *logs = *counts * (*logs + most - *of_target);
  float loss = 0;
  EACH(t, T) loss += ((float *)logs)[t];

  Lanes dx[WIDTH] = {0}, dn[WIDTH], dup[UP], dqkv[3 * WIDTH], dseen[WIDTH];
  Lanes turned[T], dp[T], *dq = dqkv, *dk = dqkv + WIDTH, *dv = dqkv + 2 * WIDTH;
  EACH(i, PADDED) logits[i] *= *counts / sum;
  EACH(t, T) if (row[t + 1] >= 0) ((float *)logits)[row[t + 1] * T + t] -= weight;
  product(WIDTH, VOCAB, net->tokens, 1, WIDTH, logits, dn, 1, 0, 8);
  transpose(n2, turned);
  product(PADDED, T, logits, T, 1, turned, (Lanes *)slopes->tokens, 1, 1, 8);
  norm_back(net->norm, x2, scale2, dn, dx, gains->norm);

  backward(UP, WIDTH, net->down, up, dx, dup, slopes->down);
  EACH(i, UP) dup[i] = (Lanes)((Ints)dup[i] & (up[i] > 0));
  backward(WIDTH, UP, net->up, n1, dup, dn, slopes->up);
  norm_back(net->feed_norm, x1, scale1, dn, dx, gains->feed_norm);

  backward(WIDTH, WIDTH, net->out, seen, dx, dseen, slopes->out);
  EACH(h, HEADS) {
    const int at = h * HEAD;
    Lanes mean = {0};
    product(T, HEAD, v + at, 1, T, dseen + at, dp, 1, 0, 8);
    transpose(p[h], turned);
    product(HEAD, T, dseen + at, T, 1, turned, dv + at, 1, 0, HEAD);
    EACH(s, T) mean += p[h][s] * dp[s];
    EACH(s, T) dp[s] = p[h][s] * (dp[s] - mean) * scale;
    product(HEAD, T, k + at, T, 1, dp, dq + at, 1, 0, HEAD);
    transpose(dp, turned);
    product(HEAD, T, q + at, T, 1, turned, dk + at, 1, 0, HEAD);
  }
  backward(WIDTH, 3 * WIDTH, net->qkv, n0, dqkv, dn, slopes->qkv);
  norm_back(net->attention_norm, x0, scale0, dn, dx, gains->attention_norm);
  transpose(dx, turned);
  EACH(t, T) {
    *(Lanes *)slopes->tokens[row[t] < 0 ? 0 : row[t]] += turned[t];
    *(Lanes *)slopes->positions[t] += turned[t];
  }
  return loss;
}

static void add_lanes(const Lanes *x, float *sums) {
  Lanes across[T], sum = {0};
  transpose(x, across);
  EACH(t, T) sum += across[t];
  *(Lanes *)sums = sum;
}

typedef struct {
  Net net, m, v;
  float power1, power2; /* 0.9 and 0.999 to the power of the step */
} State;

static float step(State *s, const Rows rows) {
  static const Gains none;
  Net slopes;
  Gains gains = none;
  memset(&slopes, 0, sizeof slopes);
  int kept = 0;
  EACH(r, ROWS) EACH(t, T) kept += rows[r][t + 1] >= 0;
  float loss = 0;
  EACH(r, ROWS) loss += row_of(&s->net, rows[r], 1.0f / (float)kept, &slopes, &gains);
  add_lanes(gains.attention_norm, slopes.attention_norm);
  add_lanes(gains.feed_norm, slopes.feed_norm);
  add_lanes(gains.norm, slopes.norm);

  float *p = (float *)&s->net;
  const float *g = (float *)&slopes;
#ifdef ADAM
  float *m = (float *)&s->m, *v = (float *)&s->v;
  s->power1 *= 0.9f;
  s->power2 *= 0.999f;
  float scale1 = 1 / (1 - s->power1), scale2 = 1 / (1 - s->power2);
  EACH(k, NUMBERS) {
    m[k] = 0.9f * m[k] + 0.1f * g[k];
    v[k] = 0.999f * v[k] + 0.001f * g[k] * g[k];
    p[k] -= RATE * (scale1 * m[k] / (sqrtf(v[k] * scale2) + 1e-8f) + DECAY * p[k]);
  }
#else
  EACH(k, NUMBERS) p[k] -= RATE * g[k];
#endif
  return loss;
}

typedef struct {
  int nets, steps;
  double loss;
} Job;

static void *run(void *argument) {
  Job *job = argument;
  EACH(n, job->nets) {
    State state = {.net = start, .power1 = 1, .power2 = 1};
    float loss = 0;
    EACH(i, job->steps) loss = step(&state, rows_of_step[i]);
    job->loss += loss;
  }
  return NULL;
}

static int were_read(void *numbers, size_t size, size_t count) {
  return numbers && fread(numbers, size, count, stdin) == count;
}

int main(int argc, char **argv) {
  int nets = 0, steps = 0, threads = 0;
  if (argc == 4) nets = atoi(argv[1]), steps = atoi(argv[2]), threads = atoi(argv[3]);
  if (nets < 1 || steps < 1 || threads < 1 || threads > MOST_THREADS ||
      !were_read(start.tokens, sizeof(float), VOCAB * WIDTH) ||
      !were_read(start.positions, sizeof(float), AFTER_TOKENS) ||
      !were_read(rows_of_step = malloc(sizeof(Rows) * (size_t)steps), sizeof(Rows),
                 (size_t)steps)) {
    fprintf(stderr, "use: microgpt NETS STEPS THREADS < NUMBERS\n");
    return 2;
  }
  EACH(s, T) EACH(t, T) sees[s][t] = s <= t ? -1 : 0;
  Job jobs[MOST_THREADS] = {0};
  EACH(t, threads) {
    jobs[t].nets = nets / threads + (t < nets % threads);
    jobs[t].steps = steps;
  }
  double seconds = on_threads(threads, run, jobs, sizeof(Job)), loss = 0;
  EACH(t, threads) loss += jobs[t].loss;
  printf("{\"seconds\": %.17g, \"loss\": %.9g}\n", seconds, loss);
  return 0;
}
