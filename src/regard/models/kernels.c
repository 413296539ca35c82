/* What stands between the products of a block, forward and backward, and what a decoding step does there; in bfloat16.

Written in torch's operations a decoding step has some thirty small ones a block, each of which costs more than it
computes; in training each goes through memory once more, and attention of sequences of different lengths has as many
again. Those operations are the oracle of these (rollout/decode.py, models/between.py). Numbers are rounded where the
modules of transformers round theirs, but for the scores and weights of attention, which stay float32. Nothing is summed
across threads or sequences, and rows only in blocks of BLOCK, so a result does not depend on what else is computed.

WIDTH and SHARING, the width of a head and the queries that share a key, SHORT, the tokens of a sequence at most, and
BLOCK are given when this is compiled. */

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

static inline float wide(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float out;
    memcpy(&out, &bits, 4);
    return out;
}

/* To the nearest, halves to even. What is not a number stays none: those that arithmetic makes of bfloat16 have no low
   bits that could carry. */
static inline bf16 narrow(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

static inline float rounded(float x) { return wide(narrow(x)); }

/* exp(x) = 2^n * 2^f with f in [-1/2, 1/2] as the first terms of its series; off by 6 in 10^7 for x in
   [-8, 8], by 4 in 10^6 for any that is not beyond the range of floats. */
static inline float exponential(float x) {
    float scaled = x * 1.44269504f;
    scaled = scaled < -126 ? -126 : scaled > 127 ? 127 : scaled;
    float whole = rintf(scaled), f = (scaled - whole) * 0.693147181f;
    float series = 1 + f * (1 + f * (0.5f + f * (0.166666667f + f * (0.0416666667f + f * (0.00833333333f + f * 0.00138888889f)))));
    uint32_t bits = (uint32_t)((int32_t)whole + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return series * power;
}

static inline float root_mean_square(const bf16 *x, int64_t width, float eps) {
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += wide(x[i]) * wide(x[i]);
    return sqrtf(sum / (float)width + eps);
}

/* y = weight * x / sqrt(mean(x^2) + eps) for each row. */
void rms_norm(const bf16 *x, const bf16 *weight, bf16 *y, int64_t rows, int64_t width, float eps) {
    #pragma omp parallel for if (rows * width > 65536)
    for (int64_t row = 0; row < rows; row++) {
        const bf16 *from = x + row * width;
        bf16 *to = y + row * width;
        float scale = 1 / root_mean_square(from, width, eps);
        #pragma omp simd
        for (int64_t i = 0; i < width; i++) to[i] = narrow(wide(weight[i]) * rounded(wide(from[i]) * scale));
    }
}

/* With s = 1 / sqrt(mean(x^2) + eps) and the gradient g of y:

   dx = s * (weight * g - x * s^2 * mean(weight * g * x)),  dweight = sum of s * g * x over the rows

   of_weight  [rows / BLOCK, rounded up; width] the sums of each block, or none */
void rms_norm_backward(const bf16 *x, const bf16 *weight, const bf16 *grad, bf16 *of_x, float *of_weight, int64_t rows,
                       int64_t width, float eps) {
    #pragma omp parallel for if (rows * width > 65536)
    for (int64_t begin = 0; begin < rows; begin += BLOCK) {
        float *sums = of_weight ? of_weight + begin / BLOCK * width : 0;
        if (sums) memset(sums, 0, width * sizeof(float));
        for (int64_t row = begin; row < rows && row < begin + BLOCK; row++) {
            const bf16 *from = x + row * width, *g = grad + row * width;
            bf16 *to = of_x + row * width;
            float scale = 1 / root_mean_square(from, width, eps), sum = 0;
            #pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < width; i++) sum += wide(weight[i]) * wide(g[i]) * wide(from[i]);
            float along = scale * scale * sum / (float)width;
            #pragma omp simd
            for (int64_t i = 0; i < width; i++) to[i] = narrow(scale * (wide(weight[i]) * wide(g[i]) - along * wide(from[i])));
            if (sums)
                #pragma omp simd
                for (int64_t i = 0; i < width; i++) sums[i] += scale * wide(g[i]) * wide(from[i]);
        }
    }
}

/* out = x / (1 + exp(-x)) * y for each row, of `width` numbers every `stride`. */
void silu_times(const bf16 *x, const bf16 *y, bf16 *out, int64_t rows, int64_t width, int64_t stride) {
    #pragma omp parallel for if (rows * width > 8192)
    for (int64_t row = 0; row < rows; row++) {
        const bf16 *gate = x + row * stride, *up = y + row * stride;
        bf16 *to = out + row * width;
        #pragma omp simd
        for (int64_t i = 0; i < width; i++) {
            float value = wide(gate[i]);
            to[i] = narrow(rounded(value / (1 + exponential(-value))) * wide(up[i]));
        }
    }
}

/* With p = 1 / (1 + exp(-x)) and the gradient g:  dx = g * y * p * (1 + x * (1 - p)),  dy = g * x * p */
void silu_times_backward(const bf16 *x, const bf16 *y, const bf16 *grad, bf16 *of_x, bf16 *of_y, int64_t rows,
                         int64_t width) {
    #pragma omp parallel for if (rows * width > 8192)
    for (int64_t row = 0; row < rows; row++)
        #pragma omp simd
        for (int64_t i = row * width; i < (row + 1) * width; i++) {
            float value = wide(x[i]), g = wide(grad[i]), share = 1 / (1 + exponential(-value));
            of_x[i] = narrow(g * wide(y[i]) * share * (1 + value * (1 - share)));
            of_y[i] = narrow(g * value * share);
        }
}

static inline void widened(const bf16 *x, float *out) {
    #pragma omp simd
    for (int i = 0; i < WIDTH; i++) out[i] = wide(x[i]);
}

static inline float dot(const float *x, const float *y) {
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int i = 0; i < WIDTH; i++) sum += x[i] * y[i];
    return sum;
}

static inline void add_times(float *to, float factor, const float *x) {
    #pragma omp simd
    for (int i = 0; i < WIDTH; i++) to[i] += factor * x[i];
}

/* The n scores become their softmax. */
static inline void softmax(float *score, int64_t n) {
    float top = -INFINITY, sum = 0;
    #pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++) top = score[j] > top ? score[j] : top;
    #pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += score[j] = exponential(score[j] - top);
    float share = 1 / sum;
    #pragma omp simd
    for (int64_t j = 0; j < n; j++) score[j] *= share;
}

/* By the angles of a position: the first half of a head's width is turned into the second. */
static inline void turn(const bf16 *x, const bf16 *cosine, const bf16 *sine, float *out) {
    #pragma omp simd
    for (int i = 0; i < WIDTH / 2; i++) {
        int j = i + WIDTH / 2;
        float a = wide(x[i]), b = wide(x[j]);
        out[i] = rounded(rounded(a * wide(cosine[i])) + rounded(-b * wide(sine[i])));
        out[j] = rounded(rounded(b * wide(cosine[j])) + rounded(a * wide(sine[j])));
    }
}

/* The gradient of what was turned becomes that of what it was before. */
static inline void turn_back(const float *grad, const bf16 *cosine, const bf16 *sine, float *out) {
    #pragma omp simd
    for (int i = 0; i < WIDTH / 2; i++) {
        int j = i + WIDTH / 2;
        out[i] = grad[i] * wide(cosine[i]) + grad[j] * wide(sine[j]);
        out[j] = grad[j] * wide(cosine[j]) - grad[i] * wide(sine[i]);
    }
}

/* Each row's key and value join the cache at `slot`; then its queries look at the row's slots from `first` to there.

   projected  [rows, groups * SHARING + 2 * groups, WIDTH]: queries, keys, values
   cosine, sine  [rows, WIDTH];  first  [rows]
   keys, values  [rows, groups, slots, WIDTH]
   scores  room for `slot` + 1 numbers for each of SHARING * rows * groups
   out  [rows, groups * SHARING * WIDTH] */
void attend_new(const bf16 *projected, const bf16 *cosine, const bf16 *sine, const int64_t *first, bf16 *keys,
                bf16 *values, float *scores, bf16 *out, int64_t rows, int64_t groups, int64_t slots, int64_t slot,
                float scaling) {
    #pragma omp parallel for
    for (int64_t part = 0; part < rows * groups; part++) {
        int64_t row = part / groups, group = part % groups;
        const bf16 *of_row = projected + row * groups * (SHARING + 2) * WIDTH;
        const bf16 *c = cosine + row * WIDTH, *s = sine + row * WIDTH;
        bf16 *own_keys = keys + part * slots * WIDTH, *own_values = values + part * slots * WIDTH;
        float *weight = scores + part * SHARING * (slot + 1);
        float query[SHARING][WIDTH], sums[SHARING][WIDTH] = {{0}}, key[WIDTH];

        turn(of_row + (groups * SHARING + group) * WIDTH, c, s, key);
        for (int i = 0; i < WIDTH; i++) own_keys[slot * WIDTH + i] = narrow(key[i]);
        memcpy(own_values + slot * WIDTH, of_row + (groups * (SHARING + 1) + group) * WIDTH, WIDTH * sizeof(bf16));
        for (int q = 0; q < SHARING; q++) turn(of_row + (group * SHARING + q) * WIDTH, c, s, query[q]);

        for (int64_t j = first[row]; j <= slot; j++) {
            widened(own_keys + j * WIDTH, key);
            for (int q = 0; q < SHARING; q++) weight[q * (slot + 1) + j] = scaling * dot(query[q], key);
        }
        for (int q = 0; q < SHARING; q++) softmax(weight + q * (slot + 1) + first[row], slot + 1 - first[row]);
        for (int64_t j = first[row]; j <= slot; j++) {
            widened(own_values + j * WIDTH, key);
            for (int q = 0; q < SHARING; q++) add_times(sums[q], weight[q * (slot + 1) + j], key);
        }
        for (int q = 0; q < SHARING; q++)
            for (int i = 0; i < WIDTH; i++) out[(part * SHARING + q) * WIDTH + i] = narrow(sums[q][i]);
    }
}

/* softmax over keys 0 to `last` of scaling * query . key. */
static inline void weights_of(const float *query, float (*keys)[WIDTH], int64_t last, float scaling, float *weight) {
    for (int64_t j = 0; j <= last; j++) weight[j] = scaling * dot(query, keys[j]);
    softmax(weight, last + 1);
}

/* softmax(scaling * R(Q) R(K)^T + causal mask) V of each sequence, whose tokens are begins[s] to begins[s + 1] - 1, with
   R turning by the angles of a position.

   query, out  [tokens, groups * SHARING, WIDTH];  key, value  [tokens, groups, WIDTH];  cosine, sine  [tokens, WIDTH] */
void attend(const bf16 *query, const bf16 *key, const bf16 *value, const bf16 *cosine, const bf16 *sine,
            const int64_t *begins, bf16 *out, int64_t sequences, int64_t groups, float scaling) {
    #pragma omp parallel for schedule(dynamic)
    for (int64_t part = 0; part < sequences * groups; part++) {
        int64_t begin = begins[part / groups], group = part % groups, length = begins[part / groups + 1] - begin;
        float keys[SHORT][WIDTH], values[SHORT][WIDTH], weight[SHORT], own[WIDTH];
        for (int64_t j = 0; j < length; j++) {
            int64_t token = begin + j, place = (token * groups + group) * WIDTH;
            turn(key + place, cosine + token * WIDTH, sine + token * WIDTH, keys[j]);
            widened(value + place, values[j]);
        }
        for (int64_t i = 0; i < length; i++)
            for (int64_t head = group * SHARING; head < (group + 1) * SHARING; head++) {
                int64_t token = begin + i, place = (token * groups * SHARING + head) * WIDTH;
                float seen[WIDTH] = {0};
                turn(query + place, cosine + token * WIDTH, sine + token * WIDTH, own);
                weights_of(own, keys, i, scaling, weight);
                for (int64_t j = 0; j <= i; j++) add_times(seen, weight[j], values[j]);
                for (int w = 0; w < WIDTH; w++) out[place + w] = narrow(seen[w]);
            }
    }
}

/* With weights P = softmax(S), S = scaling * R(Q) R(K)^T and the gradient G of what they see, P V:

   dV = P^T G,  dS = P * (G V^T - rowsum(P * G V^T)),  dR(Q) = scaling * dS R(K),  dR(K) = scaling * dS^T R(Q)

   grad, of_query  as query;  of_key, of_value  as key */
void attend_backward(const bf16 *query, const bf16 *key, const bf16 *value, const bf16 *cosine, const bf16 *sine,
                     const int64_t *begins, const bf16 *grad, bf16 *of_query, bf16 *of_key, bf16 *of_value,
                     int64_t sequences, int64_t groups, float scaling) {
    #pragma omp parallel for schedule(dynamic)
    for (int64_t part = 0; part < sequences * groups; part++) {
        int64_t begin = begins[part / groups], group = part % groups, length = begins[part / groups + 1] - begin;
        float keys[SHORT][WIDTH], values[SHORT][WIDTH], weight[SHORT], slope[SHORT], own[WIDTH], upstream[WIDTH];
        float to_keys[SHORT][WIDTH], to_values[SHORT][WIDTH];
        memset(to_keys, 0, length * sizeof keys[0]);
        memset(to_values, 0, length * sizeof keys[0]);
        for (int64_t j = 0; j < length; j++) {
            int64_t token = begin + j, place = (token * groups + group) * WIDTH;
            turn(key + place, cosine + token * WIDTH, sine + token * WIDTH, keys[j]);
            widened(value + place, values[j]);
        }
        for (int64_t i = 0; i < length; i++)
            for (int64_t head = group * SHARING; head < (group + 1) * SHARING; head++) {
                int64_t token = begin + i, place = (token * groups * SHARING + head) * WIDTH;
                const bf16 *c = cosine + token * WIDTH, *s = sine + token * WIDTH;
                float to_own[WIDTH] = {0}, mean = 0;
                turn(query + place, c, s, own);
                widened(grad + place, upstream);
                weights_of(own, keys, i, scaling, weight);
                for (int64_t j = 0; j <= i; j++) slope[j] = dot(upstream, values[j]);
                #pragma omp simd reduction(+ : mean)
                for (int64_t j = 0; j <= i; j++) mean += weight[j] * slope[j];
                for (int64_t j = 0; j <= i; j++) {
                    float ds = scaling * weight[j] * (slope[j] - mean);
                    add_times(to_values[j], weight[j], upstream);
                    add_times(to_own, ds, keys[j]);
                    add_times(to_keys[j], ds, own);
                }
                turn_back(to_own, c, s, own);
                for (int w = 0; w < WIDTH; w++) of_query[place + w] = narrow(own[w]);
            }
        for (int64_t j = 0; j < length; j++) {
            int64_t token = begin + j, place = (token * groups + group) * WIDTH;
            turn_back(to_keys[j], cosine + token * WIDTH, sine + token * WIDTH, own);
            for (int w = 0; w < WIDTH; w++) {
                of_key[place + w] = narrow(own[w]);
                of_value[place + w] = narrow(to_values[j][w]);
            }
        }
    }
}
