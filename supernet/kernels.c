/* What supernet/kernels.py compiles for the processor at hand: batch norm with ReLU, and the weight gradient of a depthwise
 * convolution, on tensors in channels-last layout, in float32 or bfloat16. Sums are kept in float32, in double precision
 * over long stretches. One thread each: work is divided above.
 *
 * A tensor [N, C, H, W] is N*H*W rows of C numbers here. C is a multiple of 8. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define LANES 16
#define STRETCH 256 /* rows that are summed in single precision */
#define MOST_KERNEL 7

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t masks __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));

typedef float eight __attribute__((vector_size(32)));
typedef uint16_t halves_of_eight __attribute__((vector_size(16)));

#define FIRST_EIGHT 0, 1, 2, 3, 4, 5, 6, 7
#define TWICE_EIGHT FIRST_EIGHT, FIRST_EIGHT

/* `half` and `count` (16 or 8 lanes) are constants wherever these are called, so that no test of them remains. Of 8 lanes
 * the other half repeats them, and is not looked at. */
INLINE lanes load(const void *from, long index, int half, int count) {
    if (half) {
        const uint16_t *at = (const uint16_t *)from + index;
        halves low;
        if (count == LANES) {
            memcpy(&low, at, sizeof low);
        } else {
            halves_of_eight part;
            memcpy(&part, at, sizeof part);
            low = __builtin_shufflevector(part, part, TWICE_EIGHT);
        }
        return (lanes)(__builtin_convertvector(low, words) << 16);
    }
    const float *at = (const float *)from + index;
    if (count == LANES) {
        lanes value;
        memcpy(&value, at, sizeof value);
        return value;
    }
    eight part;
    memcpy(&part, at, sizeof part);
    return __builtin_shufflevector(part, part, TWICE_EIGHT);
}

INLINE halves rounded(lanes value) { /* to the nearest, ties to even; what is no number stays none */
#ifdef __AVX512BF16__
    return (halves)_mm512_cvtneps_pbh((__m512)value);
#else
    words bits = (words)value;
    words nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    words nan = (words)(value != value);
    return __builtin_convertvector((nearest & ~nan) | (0x7fc0 & nan), halves);
#endif
}

INLINE void store(void *to, long index, lanes value, int half, int count) {
    if (half) {
        halves low = rounded(value);
        if (count == LANES) {
            memcpy((uint16_t *)to + index, &low, sizeof low);
        } else {
            halves_of_eight part = __builtin_shufflevector(low, low, FIRST_EIGHT);
            memcpy((uint16_t *)to + index, &part, sizeof part);
        }
    } else if (count == LANES) {
        memcpy((float *)to + index, &value, sizeof value);
    } else {
        eight part = __builtin_shufflevector(value, value, FIRST_EIGHT);
        memcpy((float *)to + index, &part, sizeof part);
    }
}

INLINE lanes positive(lanes value, lanes of) { return (lanes)((masks)value & (of > 0)); }

INLINE void add(double *to, lanes value, int count) {
    for (int i = 0; i < count; i++) to[i] += value[i];
}

/* --- batch norm, with ReLU where asked for --------------------------------------------------------------------- */

INLINE void statistics(const void *x, long rows, long channels, long first, float *mean, float *variance, int half, int count) {
    lanes pivot = load(x, first, half, count); /* differences from any sample keep their digits */
    double sum[LANES] = {0}, squares[LANES] = {0};
    for (long start = 0; start < rows; start += STRETCH) {
        long end = start + STRETCH < rows ? start + STRETCH : rows, row = start;
        lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, q0 = {0}, q1 = {0}, q2 = {0}, q3 = {0};
        for (; row + 4 <= end; row += 4) {
            lanes a = load(x, row * channels + first, half, count) - pivot;
            lanes b = load(x, (row + 1) * channels + first, half, count) - pivot;
            lanes c = load(x, (row + 2) * channels + first, half, count) - pivot;
            lanes d = load(x, (row + 3) * channels + first, half, count) - pivot;
            s0 += a, s1 += b, s2 += c, s3 += d;
            q0 += a * a, q1 += b * b, q2 += c * c, q3 += d * d;
        }
        for (; row < end; row++) {
            lanes a = load(x, row * channels + first, half, count) - pivot;
            s0 += a, q0 += a * a;
        }
        add(sum, (s0 + s1) + (s2 + s3), count);
        add(squares, (q0 + q1) + (q2 + q3), count);
    }
    for (int i = 0; i < count; i++) {
        double average = sum[i] / rows, spread = squares[i] / rows - average * average;
        mean[first + i] = (float)(pivot[i] + average);
        variance[first + i] = spread > 0 ? (float)spread : (spread == spread ? 0.0f : NAN);
    }
}

/* What takes x to its output: both passes have to agree to the last bit on where ReLU cuts. */
INLINE void scale_and_shift(const float *weight, const float *bias, float eps, const float *mean, const float *variance,
                            long first, int count, lanes *scale, lanes *shift) {
    *scale = *shift = (lanes){0};
    for (int i = 0; i < count; i++) {
        (*scale)[i] = (weight ? weight[first + i] : 1.0f) / sqrtf(variance[first + i] + eps);
        (*shift)[i] = (bias ? bias[first + i] : 0.0f) - mean[first + i] * (*scale)[i];
    }
}

INLINE void norm(const void *x, void *y, long rows, long channels, const float *weight, const float *bias, float eps,
                 const float *mean, const float *variance, int relu, long first, int half, int count) {
    lanes scale, shift;
    scale_and_shift(weight, bias, eps, mean, variance, first, count, &scale, &shift);
    for (long row = 0; row < rows; row++) {
        lanes value = load(x, row * channels + first, half, count) * scale + shift;
        if (relu) value = (lanes)((masks)value & ~(value <= 0));
        store(y, row * channels + first, value, half, count);
    }
}

INLINE void norm_backward(const void *x, const void *dy, void *dx, long rows, long channels, const float *weight,
                          const float *bias, float eps, const float *mean, const float *variance, float *dweight,
                          float *dbias, int relu, long first, int half, int count) {
    lanes scale, shift, centre = {0}, inverse = {0};
    scale_and_shift(weight, bias, eps, mean, variance, first, count, &scale, &shift);
    for (int i = 0; i < count; i++) {
        inverse[i] = 1.0f / sqrtf(variance[first + i] + eps);
        centre[i] = mean[first + i];
    }
    double sum[LANES] = {0}, products[LANES] = {0};
    for (long start = 0; start < rows; start += STRETCH) {
        long end = start + STRETCH < rows ? start + STRETCH : rows, row = start;
        lanes s0 = {0}, s1 = {0}, p0 = {0}, p1 = {0};
        for (; row + 2 <= end; row += 2) {
            lanes a = load(x, row * channels + first, half, count);
            lanes b = load(x, (row + 1) * channels + first, half, count);
            lanes da = load(dy, row * channels + first, half, count);
            lanes db = load(dy, (row + 1) * channels + first, half, count);
            if (relu) da = positive(da, a * scale + shift), db = positive(db, b * scale + shift);
            s0 += da, s1 += db;
            p0 += da * (a - centre), p1 += db * (b - centre);
        }
        for (; row < end; row++) {
            lanes a = load(x, row * channels + first, half, count);
            lanes da = load(dy, row * channels + first, half, count);
            if (relu) da = positive(da, a * scale + shift);
            s0 += da, p0 += da * (a - centre);
        }
        add(sum, s0 + s1, count);
        add(products, p0 + p1, count);
    }
    lanes slope = {0}, offset = {0};
    for (int i = 0; i < count; i++) {
        dbias[first + i] = (float)sum[i];
        dweight[first + i] = (float)(products[i] * inverse[i]);
        slope[i] = (float)(products[i] * inverse[i] * inverse[i] / rows);
        offset[i] = (float)(sum[i] / rows);
    }
    for (long row = 0; row < rows; row++) {
        lanes a = load(x, row * channels + first, half, count);
        lanes da = load(dy, row * channels + first, half, count);
        if (relu) da = positive(da, a * scale + shift);
        store(dx, row * channels + first, scale * (da - offset - (a - centre) * slope), half, count);
    }
}

#define EACH_BLOCK(CALL)                                                                                              \
    for (long first = 0; first < channels; first += LANES) {                                                         \
        if (first + LANES <= channels) {                                                                             \
            if (half) CALL(1, 16); else CALL(0, 16);                                                                 \
        } else {                                                                                                     \
            if (half) CALL(1, 8); else CALL(0, 8);                                                                   \
        }                                                                                                            \
    }

void norm_relu(const void *x, void *y, long rows, long channels, const float *weight, const float *bias, float eps, float *mean,
               float *variance, int relu, int half) {
#define FORWARD(HALF, COUNT)                                                                                          \
    do {                                                                                                             \
        statistics(x, rows, channels, first, mean, variance, HALF, COUNT);                                           \
        if (relu) norm(x, y, rows, channels, weight, bias, eps, mean, variance, 1, first, HALF, COUNT);              \
        else norm(x, y, rows, channels, weight, bias, eps, mean, variance, 0, first, HALF, COUNT);                   \
    } while (0)
    EACH_BLOCK(FORWARD)
}

void norm_relu_backward(const void *x, const void *dy, void *dx, long rows, long channels, const float *weight,
                        const float *bias, float eps, const float *mean, const float *variance, float *dweight,
                        float *dbias, int relu, int half) {
#define BACKWARD(HALF, COUNT)                                                                                         \
    do {                                                                                                             \
        if (relu) norm_backward(x, dy, dx, rows, channels, weight, bias, eps, mean, variance, dweight, dbias, 1,     \
                                first, HALF, COUNT);                                                                 \
        else norm_backward(x, dy, dx, rows, channels, weight, bias, eps, mean, variance, dweight, dbias, 0, first,   \
                           HALF, COUNT);                                                                             \
    } while (0)
    EACH_BLOCK(BACKWARD)
}

/* --- weight gradient of a depthwise convolution ---------------------------------------------------------------- */

/* dw[kh, kw] of 16 channels: for each row of x, padded with zeros and in single precision, the products with the rows of
 * dy that it met. The sums of one row of the kernel stay in registers. */
INLINE void row_products(const lanes *x, const lanes *dy, long width, int stride, int dilation, int kernel, lanes *sums) {
    lanes kept[MOST_KERNEL];
    for (int k = 0; k < kernel; k++) kept[k] = sums[k];
    for (long column = 0; column < width; column++) {
        lanes d = dy[column];
        for (int k = 0; k < kernel; k++) kept[k] += d * x[column * stride + k * dilation];
    }
    for (int k = 0; k < kernel; k++) sums[k] = kept[k];
}

INLINE void depthwise_block(const void *x, const void *dy, float *dw, long images, long height, long width, long channels,
                            long out_height, long out_width, int kernel, int stride, int padding, int dilation,
                            lanes *scratch, long first, int half, int count) {
    lanes *row = scratch, *gradients = scratch + width + 2 * padding;
    double total[MOST_KERNEL * MOST_KERNEL * LANES] = {0};
    for (int i = 0; i < padding; i++) row[i] = row[width + padding + i] = (lanes){0};
    for (long image = 0; image < images; image++) {
        lanes sums[MOST_KERNEL][MOST_KERNEL] = {0};
        for (long at = 0; at < out_height * out_width; at++)
            gradients[at] = load(dy, (image * out_height * out_width + at) * channels + first, half, count);
        for (long h = 0; h < height; h++) {
            for (long w = 0; w < width; w++)
                row[padding + w] = load(x, ((image * height + h) * width + w) * channels + first, half, count);
            for (int k = 0; k < kernel; k++) {
                long from = h + padding - (long)k * dilation;
                if (from < 0 || from % stride || from / stride >= out_height) continue;
                lanes *met = gradients + from / stride * out_width;
                switch (kernel * 4 + stride) { /* constants, so that the sums get registers */
                    case 3 * 4 + 1: row_products(row, met, out_width, 1, dilation, 3, sums[k]); break;
                    case 5 * 4 + 1: row_products(row, met, out_width, 1, dilation, 5, sums[k]); break;
                    case 7 * 4 + 1: row_products(row, met, out_width, 1, dilation, 7, sums[k]); break;
                    default: row_products(row, met, out_width, stride, dilation, kernel, sums[k]);
                }
            }
        }
        for (int k = 0; k < kernel; k++)
            for (int l = 0; l < kernel; l++) add(total + (k * MOST_KERNEL + l) * LANES, sums[k][l], count);
    }
    for (int k = 0; k < kernel; k++)
        for (int l = 0; l < kernel; l++)
            for (int i = 0; i < count; i++)
                dw[(k * kernel + l) * channels + first + i] = (float)total[(k * MOST_KERNEL + l) * LANES + i];
}

/* dw is [kernel, kernel, channels]; scratch holds (width + 2 * padding + out_height * out_width) * 16 floats, on a 64-byte
 * boundary. */
void depthwise_weight_gradient(const void *x, const void *dy, float *dw, long images, long height, long width, long channels,
                               long out_height, long out_width, int kernel, int stride, int padding, int dilation,
                               void *scratch, int half) {
#define GRADIENT(HALF, COUNT)                                                                                         \
    depthwise_block(x, dy, dw, images, height, width, channels, out_height, out_width, kernel, stride, padding,      \
                    dilation, scratch, first, HALF, COUNT)
    EACH_BLOCK(GRADIENT)
}
