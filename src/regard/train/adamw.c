/* The step of AdamW on weights in bfloat16 with a remainder; adamw.py has it in torch's operations, which go through
memory a dozen times as often. */

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float as_float(uint32_t bits) {
    float out;
    memcpy(&out, &bits, 4);
    return out;
}

static inline uint32_t as_bits(float x) {
    uint32_t out;
    memcpy(&out, &x, 4);
    return out;
}

/* rate is that of learning over 1 - beta1^t, root is sqrt(1 - beta2^t). What is left of the betas to 1 is given, since
0.999 as a float is 1.3e-5 of a thousandth off. */
void step(uint16_t *weight, int16_t *remainder, const float *grad, uint16_t *mean, float *square, int64_t n, float rate,
          float one_less_beta1, float one_less_beta2, float root, float eps) {
    #pragma omp parallel for simd if (n > 65536)
    for (int64_t i = 0; i < n; i++) {
        float w = as_float(((uint32_t)weight[i] << 16) + (uint32_t)(int32_t)remainder[i]);
        float m = as_float((uint32_t)mean[i] << 16), v = square[i], g = grad[i];
        m += one_less_beta1 * (g - m);
        v += one_less_beta2 * (g * g - v);
        w -= rate * m / (sqrtf(v) / root + eps);
        uint32_t whole = as_bits(w), first = as_bits(m);
        weight[i] = (whole + 0x8000) >> 16;
        remainder[i] = (int16_t)whole;
        mean[i] = (first + 0x7fff + ((first >> 16) & 1)) >> 16;
        square[i] = v;
    }
}
