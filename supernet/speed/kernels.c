/* Kernels for ReLU, batch norm with ReLU, pooling, the weight gradient of a depthwise convolution, and convolutions
 * with ReLU before and batch norm after them. supernet/speed/kernels.py compiles them for the processor of the machine.
 *
 * Tensors are in channels-last layout, in float32 or bfloat16 ("half"). A tensor [N, C, H, W] is N*H*W rows of C
 * numbers here; C is a multiple of 8. Sums are kept in float32, and in double precision over many rows. Each call runs
 * on one thread; the caller divides the work. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#ifdef __AVX512F__
#define LANES 16
#else /* vectors wider than the registers take minutes to compile, and the code is slow */
#define LANES 8
#endif
#define VECTORS (16 / LANES) /* in 16 channels; with two of them there are also half as many registers */
/* Whether the processor multiplies halves in pairs. If not, this file has no convolutions of halves. */
#ifdef __AVX512BF16__
#define MULTIPLIES_HALVES 1
#else
#define MULTIPLIES_HALVES 0
#endif
#define MOST_KERNEL 7

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t masks __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));

typedef float eight __attribute__((vector_size(32)));
typedef uint16_t halves_of_eight __attribute__((vector_size(16)));

#define FIRST_EIGHT 0, 1, 2, 3, 4, 5, 6, 7
#if LANES == 16
#define ALL_OF_EIGHT FIRST_EIGHT, FIRST_EIGHT
#else
#define ALL_OF_EIGHT FIRST_EIGHT
#endif

/* `half` and `count` (all lanes, or 8 of them) are constants at every call, so the compiler removes the tests of them.
 * If 8 of 16 lanes are used, the other 8 repeat them and are ignored. */
INLINE lanes load(const void *from, long index, int half, int count) {
    if (half) {
        const uint16_t *at = (const uint16_t *)from + index;
        halves low;
        if (count == LANES) {
            memcpy(&low, at, sizeof low);
        } else {
            halves_of_eight part;
            memcpy(&part, at, sizeof part);
            low = __builtin_shufflevector(part, part, ALL_OF_EIGHT);
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
    return __builtin_shufflevector(part, part, ALL_OF_EIGHT);
}

INLINE halves rounded(lanes value) { /* rounded to the nearest, ties to even; NaN stays NaN */
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

/* The value in lanes in which `of` is above zero; zero in the others. */
INLINE lanes positive(lanes value, lanes of) {
#ifdef __AVX512F__ /* otherwise compilers turn masks into vectors and back */
    return (lanes)_mm512_maskz_mov_ps(_mm512_cmp_ps_mask((__m512)of, _mm512_setzero_ps(), _CMP_GT_OQ), (__m512)value);
#else
    return (lanes)((masks)value & (of > 0));
#endif
}

INLINE lanes rectified(lanes value) { /* NaN stays NaN */
#ifdef __AVX512F__
    return (lanes)_mm512_max_ps(_mm512_setzero_ps(), (__m512)value); /* the second operand if one is NaN */
#else
    return (lanes)((masks)value & ~(value <= 0));
#endif
}

INLINE void add(double *to, lanes value, int count) {
    for (int i = 0; i < count; i++) to[i] += value[i];
}

/* Runs CALL(half, count) for each block of channels, `first` being where it begins. */
#define EACH_BLOCK(CALL)                                     \
    for (long first = 0; first < channels; first += LANES) { \
        if (LANES == 8 || first + LANES <= channels) {       \
            if (half)                                        \
                CALL(1, LANES);                              \
            else                                             \
                CALL(0, LANES);                              \
        } else {                                             \
            if (half)                                        \
                CALL(1, 8);                                  \
            else                                             \
                CALL(0, 8);                                  \
        }                                                    \
    }

/* --- ReLU --- */

/* Halves are compared as integers, which have the same order, so none is converted. NaN stays NaN. */
void relu(const void *x, void *y, long count, int half) {
    if (half) {
        const int16_t *from = x;
        int16_t *to = y;
        for (long i = 0; i < count; i++) to[i] = from[i] > 0 || (uint16_t)from[i] > 0xff80 ? from[i] : 0;
    } else {
        const float *from = x;
        float *to = y;
        for (long i = 0; i < count; i++) to[i] = from[i] <= 0 ? 0 : from[i];
    }
}

/* Sets the slopes to zero at which ReLU's output is zero. */
void relu_backward(const void *y, void *dy, long count, int half) {
    if (half) {
        const int16_t *of = y;
        int16_t *slope = dy;
        for (long i = 0; i < count; i++) slope[i] = of[i] ? slope[i] : 0;
    } else {
        const int32_t *of = y; /* ReLU never gives a negative zero */
        int32_t *slope = dy;
        for (long i = 0; i < count; i++) slope[i] = of[i] ? slope[i] : 0;
    }
}

/* --- batch norm, optionally with ReLU --- */

/* Number of rows that are read together, with all of their channels: they fit the nearest cache, so memory is read once
 * and in order, whatever the number of channels. Sums over them are kept in single precision. */
static long stretch(long channels) {
    long rows = 8192 / channels;
    return rows < 16 ? 16 : rows > 256 ? 256 : rows;
}

INLINE void moments(const void *x, long start, long end, long channels, long first, double *sum, double *squares,
                    int half, int count) {
    lanes pivot = load(x, first, half, count); /* differences from any one sample lose no digits */
    lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, q0 = {0}, q1 = {0}, q2 = {0}, q3 = {0};
    long row = start;
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
    add(sum + first, (s0 + s1) + (s2 + s3), count);
    add(squares + first, (q0 + q1) + (q2 + q3), count);
}

INLINE void mean_and_variance(const void *x, long rows, long first, const double *sum, const double *squares,
                              float *mean, float *variance, int half, int count) {
    lanes pivot = load(x, first, half, count);
    for (int i = 0; i < count; i++) {
        double average = sum[first + i] / rows, spread = squares[first + i] / rows - average * average;
        mean[first + i] = (float)(pivot[i] + average);
        variance[first + i] = spread > 0 ? (float)spread : (spread == spread ? 0.0f : NAN);
    }
}

/* Scale and shift from x to the output. Both passes have to agree to the last bit on what ReLU cuts off. */
static void scale_and_shift(const float *weight, const float *bias, float eps, const float *mean, const float *variance,
                            long channels, float *scale, float *shift) {
    for (long i = 0; i < channels; i++) {
        scale[i] = (weight ? weight[i] : 1.0f) / sqrtf(variance[i] + eps);
        shift[i] = (bias ? bias[i] : 0.0f) - mean[i] * scale[i];
    }
}

/* The output is added to `onto`, if that is not NULL. */
INLINE void norm(const void *x, const void *onto, void *y, long start, long end, long channels, long first,
                 const float *scale, const float *shift, int relu, int half, int count) {
    lanes a = load(scale, first, 0, count), b = load(shift, first, 0, count);
    for (long row = start; row < end; row++) {
        lanes value = load(x, row * channels + first, half, count) * a + b;
        if (relu) value = rectified(value);
        if (onto) value += load(onto, row * channels + first, half, count);
        store(y, row * channels + first, value, half, count);
    }
}

INLINE lanes slope_after(const void *x, const void *dy, long at, long first, const float *scale, const float *shift,
                         int relu, int half, int count) {
    lanes gradient = load(dy, at + first, half, count);
    if (!relu) return gradient;
    return positive(gradient,
                    load(x, at + first, half, count) * load(scale, first, 0, count) + load(shift, first, 0, count));
}

INLINE void products(const void *x, const void *dy, long start, long end, long channels, long first, const float *scale,
                     const float *shift, const float *mean, double *sum, double *product, int relu, int half,
                     int count) {
    lanes centre = load(mean, first, 0, count), s0 = {0}, s1 = {0}, p0 = {0}, p1 = {0};
    long row = start;
    for (; row + 2 <= end; row += 2) {
        lanes a = slope_after(x, dy, row * channels, first, scale, shift, relu, half, count);
        lanes b = slope_after(x, dy, (row + 1) * channels, first, scale, shift, relu, half, count);
        s0 += a, s1 += b;
        p0 += a * (load(x, row * channels + first, half, count) - centre);
        p1 += b * (load(x, (row + 1) * channels + first, half, count) - centre);
    }
    for (; row < end; row++) {
        lanes a = slope_after(x, dy, row * channels, first, scale, shift, relu, half, count);
        s0 += a, p0 += a * (load(x, row * channels + first, half, count) - centre);
    }
    add(sum + first, s0 + s1, count);
    add(product + first, p0 + p1, count);
}

INLINE void norm_slope(const void *x, const void *dy, void *dx, long start, long end, long channels, long first,
                       const float *scale, const float *shift, const float *mean, const float *steepness,
                       const float *offset, int relu, int half, int count) {
    lanes a = load(scale, first, 0, count), b = load(shift, first, 0, count), centre = load(mean, first, 0, count);
    lanes steep = a * load(steepness, first, 0, count), level = a * load(offset, first, 0, count);
    for (long row = start; row < end; row++) {
        lanes value = load(x, row * channels + first, half, count),
              slope = load(dy, row * channels + first, half, count);
        if (relu) slope = positive(slope, value * a + b);
        store(dx, row * channels + first, slope * a - ((value - centre) * steep + level), half, count);
    }
}

void norm_relu(const void *x, const void *onto, void *y, long rows, long channels, const float *weight,
               const float *bias, float eps, float *mean, float *variance, int relu, int half) {
    double sum[channels], squares[channels];
    float scale[channels], shift[channels];
    memset(sum, 0, sizeof sum), memset(squares, 0, sizeof squares);
    for (long start = 0, step = stretch(channels); start < rows; start += step) {
        long end = start + step < rows ? start + step : rows;
#define MOMENTS(HALF, COUNT) moments(x, start, end, channels, first, sum, squares, HALF, COUNT)
        EACH_BLOCK(MOMENTS)
    }
#define STATISTICS(HALF, COUNT) mean_and_variance(x, rows, first, sum, squares, mean, variance, HALF, COUNT)
    EACH_BLOCK(STATISTICS)
    scale_and_shift(weight, bias, eps, mean, variance, channels, scale, shift);
#define NORM(HALF, COUNT)                                                                \
    do {                                                                                 \
        if (relu)                                                                        \
            norm(x, onto, y, start, end, channels, first, scale, shift, 1, HALF, COUNT); \
        else                                                                             \
            norm(x, onto, y, start, end, channels, first, scale, shift, 0, HALF, COUNT); \
    } while (0)
    for (long start = 0, step = stretch(channels); start < rows; start += step) {
        long end = start + step < rows ? start + step : rows;
        EACH_BLOCK(NORM)
    }
}

/* Gradients of scales and offsets (those that are not NULL), and the factors that take slopes from batch norm's output
 * to its input; see norm_slope. */
static void norm_slopes(const void *x, const void *dy, long rows, long channels, const float *weight, const float *bias,
                        float eps, const float *mean, const float *variance, float *dweight, float *dbias, float *scale,
                        float *shift, float *steepness, float *offset, int relu, int half) {
    double sum[channels], product[channels];
    memset(sum, 0, sizeof sum), memset(product, 0, sizeof product);
    scale_and_shift(weight, bias, eps, mean, variance, channels, scale, shift);
    for (long start = 0, step = stretch(channels); start < rows; start += step) {
        long end = start + step < rows ? start + step : rows;
#define PRODUCTS(HALF, COUNT)                                                                               \
    do {                                                                                                    \
        if (relu)                                                                                           \
            products(x, dy, start, end, channels, first, scale, shift, mean, sum, product, 1, HALF, COUNT); \
        else                                                                                                \
            products(x, dy, start, end, channels, first, scale, shift, mean, sum, product, 0, HALF, COUNT); \
    } while (0)
        EACH_BLOCK(PRODUCTS)
    }
    for (long i = 0; i < channels; i++) {
        double inverse = 1.0f / sqrtf(variance[i] + eps);
        if (dbias) dbias[i] = (float)sum[i];
        if (dweight) dweight[i] = (float)(product[i] * inverse);
        steepness[i] = (float)(product[i] * inverse * inverse / rows);
        offset[i] = (float)(sum[i] / rows);
    }
}

/* Writes the slopes of these rows of x to the same rows of dx. */
static void slopes_of_rows(const void *x, const void *dy, void *dx, long start, long end, long channels,
                           const float *scale, const float *shift, const float *mean, const float *steepness,
                           const float *offset, int relu, int half) {
#define SLOPE(HALF, COUNT)                                                                                             \
    do {                                                                                                               \
        if (relu)                                                                                                      \
            norm_slope(x, dy, dx, start, end, channels, first, scale, shift, mean, steepness, offset, 1, HALF, COUNT); \
        else                                                                                                           \
            norm_slope(x, dy, dx, start, end, channels, first, scale, shift, mean, steepness, offset, 0, HALF, COUNT); \
    } while (0)
    EACH_BLOCK(SLOPE)
}

void norm_relu_backward(const void *x, const void *dy, void *dx, long rows, long channels, const float *weight,
                        const float *bias, float eps, const float *mean, const float *variance, float *dweight,
                        float *dbias, int relu, int half) {
    float scale[channels], shift[channels], steepness[channels], offset[channels];
    norm_slopes(x, dy, rows, channels, weight, bias, eps, mean, variance, dweight, dbias, scale, shift, steepness,
                offset, relu, half);
    for (long start = 0, step = stretch(channels); start < rows; start += step) {
        long end = start + step < rows ? start + step : rows;
        slopes_of_rows(x, dy, dx, start, end, channels, scale, shift, mean, steepness, offset, relu, half);
    }
}

/* --- pooling --- */

/* The part of a window that is inside the image, from the first place to before the last. The window begins at `from`,
 * which may be before the image. */
typedef struct {
    int first, last;
} span;

INLINE span inside(long from, int kernel, long length) {
    span found = {from < 0 ? (int)-from : 0, from + kernel > length ? (int)(length - from) : kernel};
    return found;
}

typedef uint8_t bytes __attribute__((vector_size(LANES)));

INLINE masks load_places(const uint8_t *at, int count) {
    bytes low = {0};
    memcpy(&low, at, count);
    return __builtin_convertvector(low, masks);
}

INLINE void store_places(uint8_t *at, masks value, int count) {
    bytes low = __builtin_convertvector(value, bytes);
    memcpy(at, &low, count);
}

INLINE lanes either(masks which, lanes yes, lanes no) { return (lanes)(((masks)yes & which) | ((masks)no & ~which)); }

/* The mean of the part of a window that is inside the image; or its largest number (the first of equal ones, as in the
 * library), and in `places` its place in the window. The output is added to `onto`, if that is not NULL.
 * Each row of windows is first reduced along the columns of the image, into `column` (and the row of the largest number
 * into `height_of`), then along the row: numbers are converted once for each row of the window. */
INLINE void pool_block(const void *x, const void *onto, void *y, uint8_t *places, long images, long height, long width,
                       long channels, long out_height, long out_width, int kernel, int stride, int padding,
                       lanes *column, masks *height_of, long first, int max, int half, int count) {
    for (long image = 0; image < images; image++)
        for (long h = 0; h < out_height; h++) {
            long top = h * stride - padding;
            span rows = inside(top, kernel, height);
            for (long w = 0; w < width; w++) {
                long at = ((image * height + top + rows.first) * width + w) * channels + first;
                lanes best = load(x, at, half, count);
                masks place = (masks){0} + rows.first;
                for (int k = rows.first + 1; k < rows.last; k++) {
                    lanes value = load(x, at += width * channels, half, count);
                    if (max) {
                        masks wins = (value > best) | (value != value);
                        best = either(wins, value, best), place = (k & wins) | (place & ~wins);
                    } else {
                        best += value;
                    }
                }
                column[w] = best;
                if (max) height_of[w] = place;
            }
            for (long w = 0; w < out_width; w++) {
                long left = w * stride - padding, at = ((image * out_height + h) * out_width + w) * channels + first;
                span columns = inside(left, kernel, width);
                lanes best = column[left + columns.first];
                masks row = max ? height_of[left + columns.first] : (masks){0}, l_of = (masks){0} + columns.first;
                for (int l = columns.first + 1; l < columns.last; l++) {
                    lanes value = column[left + l];
                    if (max) {
                        masks wins =
                            (value > best) | (value != value) | ((value == best) & (height_of[left + l] < row));
                        best = either(wins, value, best);
                        row = (height_of[left + l] & wins) | (row & ~wins), l_of = (l & wins) | (l_of & ~wins);
                    } else {
                        best += value;
                    }
                }
                if (max)
                    store_places(places + at, row * kernel + l_of, count);
                else
                    best *= 1.0f / ((rows.last - rows.first) * (columns.last - columns.first));
                store(y, at, onto ? best + load(onto, at, half, count) : best, half, count);
            }
        }
}

/* The slopes of the rows of an image are gathered in `sums`, a ring of as many rows as the window has, so that each
 * slope is converted once. `sums` holds kernel * (width + 2 * padding) lanes. */
INLINE void pool_backward_block(const void *dy, const uint8_t *places, void *dx, long images, long height, long width,
                                long channels, long out_height, long out_width, int kernel, int stride, int padding,
                                lanes *sums, long first, int max, int half, int count) {
    long wide = width + 2 * padding;
    for (long image = 0; image < images; image++) {
        for (long i = 0; i < kernel * wide; i++) sums[i] = (lanes){0};
        for (long h = 0, done = 0; done < height; h++) {
            long top = h * stride - padding;
            if (h < out_height) {
                span rows = inside(top, kernel, height);
                for (long w = 0; w < out_width; w++) {
                    long at = ((image * out_height + h) * out_width + w) * channels + first;
                    span columns = inside(w * stride - padding, kernel, width);
                    lanes slope = load(dy, at, half, count);
                    masks place = max ? load_places(places + at, count) : (masks){0};
                    if (!max) slope *= 1.0f / ((rows.last - rows.first) * (columns.last - columns.first));
                    for (int k = 0; k < kernel; k++) {
                        lanes *to = sums + (top + padding + k) % kernel * wide + w * stride;
                        for (int l = 0; l < kernel; l++)
                            to[l] += max ? (lanes)((masks)slope & (place == k * kernel + l)) : slope;
                    }
                }
            }
            /* Rows that are in no later window are complete; those of the padding are dropped. */
            long next = h + 1 < out_height ? top + stride : height;
            for (long row = top; row < next; row++) {
                lanes *from = sums + (row + padding) % kernel * wide;
                if (row >= 0 && row < height) {
                    for (long w = 0; w < width; w++)
                        store(dx, ((image * height + row) * width + w) * channels + first, from[w + padding], half,
                              count);
                    done = row + 1;
                }
                for (long w = 0; w < wide; w++) from[w] = (lanes){0};
            }
        }
    }
}

/* The usual windows are constants, so that their loops are unrolled and need no divisions. */
#define EACH_WINDOW(CALL)          \
    switch (kernel * 4 + stride) { \
    case 3 * 4 + 1:                \
        CALL(3, 1);                \
        break;                     \
    case 3 * 4 + 2:                \
        CALL(3, 2);                \
        break;                     \
    case 2 * 4 + 2:                \
        CALL(2, 2);                \
        break;                     \
    default:                       \
        CALL(kernel, stride);      \
    }

/* From here on, a function that returns a number returns 0 if there was not enough memory, else 1. */
int pool(const void *x, const void *onto, void *y, uint8_t *places, long images, long height, long width, long channels,
         long out_height, long out_width, int kernel, int stride, int padding, int max, int half) {
    lanes *column = aligned_alloc(sizeof(lanes), 2 * width * sizeof(lanes));
    masks *height_of = (masks *)column + width;
    if (!column) return 0;
#define POOL(HALF, COUNT)                                                                                           \
    do {                                                                                                            \
        if (max)                                                                                                    \
            pool_block(x, onto, y, places, images, height, width, channels, out_height, out_width, k_, s_, padding, \
                       column, height_of, first, 1, HALF, COUNT);                                                   \
        else                                                                                                        \
            pool_block(x, onto, y, places, images, height, width, channels, out_height, out_width, k_, s_, padding, \
                       column, height_of, first, 0, HALF, COUNT);                                                   \
    } while (0)
#define FORWARD(KERNEL, STRIDE)             \
    do {                                    \
        const int k_ = KERNEL, s_ = STRIDE; \
        EACH_BLOCK(POOL)                    \
    } while (0)
    EACH_WINDOW(FORWARD)
    free(column);
    return 1;
}

int pool_backward(const void *dy, const uint8_t *places, void *dx, long images, long height, long width, long channels,
                  long out_height, long out_width, int kernel, int stride, int padding, int max, int half) {
    lanes *sums = aligned_alloc(sizeof(lanes), kernel * (width + 2 * padding) * sizeof(lanes));
    if (!sums) return 0;
#define POOL_BACKWARD(HALF, COUNT)                                                                              \
    do {                                                                                                        \
        if (max)                                                                                                \
            pool_backward_block(dy, places, dx, images, height, width, channels, out_height, out_width, k_, s_, \
                                padding, sums, first, 1, HALF, COUNT);                                          \
        else                                                                                                    \
            pool_backward_block(dy, places, dx, images, height, width, channels, out_height, out_width, k_, s_, \
                                padding, sums, first, 0, HALF, COUNT);                                          \
    } while (0)
#define BACKWARD(KERNEL, STRIDE)            \
    do {                                    \
        const int k_ = KERNEL, s_ = STRIDE; \
        EACH_BLOCK(POOL_BACKWARD)           \
    } while (0)
    EACH_WINDOW(BACKWARD)
    free(sums);
    return 1;
}

/* --- weight gradient of a depthwise convolution --- */

/* dw[kh, kw] of 16 channels: for each row of x, padded with zeros and in single precision, the products with the rows
 * of dy to which it contributed. The sums of one row of the kernel stay in registers. */
INLINE void row_products(const lanes *x, const lanes *dy, long width, int stride, int dilation, int kernel,
                         lanes *sums) {
    lanes kept[MOST_KERNEL];
    for (int k = 0; k < kernel; k++) kept[k] = sums[k];
    for (long column = 0; column < width; column++) {
        lanes d = dy[column];
        for (int k = 0; k < kernel; k++) kept[k] += d * x[column * stride + k * dilation];
    }
    for (int k = 0; k < kernel; k++) sums[k] = kept[k];
}

INLINE void depthwise_block(const void *x, const void *dy, float *dw, long images, long height, long width,
                            long channels, long out_height, long out_width, int kernel, int stride, int padding,
                            int dilation, lanes *scratch, long first, int half, int count) {
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
                switch (kernel * 4 + stride) { /* constants, so that the sums are kept in registers */
                case 3 * 4 + 1:
                    row_products(row, met, out_width, 1, dilation, 3, sums[k]);
                    break;
                case 5 * 4 + 1:
                    row_products(row, met, out_width, 1, dilation, 5, sums[k]);
                    break;
                case 7 * 4 + 1:
                    row_products(row, met, out_width, 1, dilation, 7, sums[k]);
                    break;
                default:
                    row_products(row, met, out_width, stride, dilation, kernel, sums[k]);
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

/* dw is [kernel, kernel, channels]. */
int depthwise_weight_gradient(const void *x, const void *dy, float *dw, long images, long height, long width,
                              long channels, long out_height, long out_width, int kernel, int stride, int padding,
                              int dilation, int half) {
    lanes *scratch = aligned_alloc(sizeof(lanes), (width + 2 * padding + out_height * out_width) * sizeof(lanes));
    if (!scratch) return 0;
#define GRADIENT(HALF, COUNT)                                                                                   \
    depthwise_block(x, dy, dw, images, height, width, channels, out_height, out_width, kernel, stride, padding, \
                    dilation, scratch, first, HALF, COUNT)
    EACH_BLOCK(GRADIENT)
    free(scratch);
    return 1;
}

/* --- convolution, optionally with ReLU before it and batch norm after it --- */

/* The stride is 1, and the padding keeps the size. An image is processed in "units" of 32 bits: a float, or two halves,
 * which are multiplied by two others and added. One unit is multiplied by 16 at once. A unit holds one channel, or two
 * channels of halves; in the weight gradient, whose sums run over pixels, a half of one pixel and of the next one, of
 * the same channel. */

INLINE lanes multiplied(lanes sum, const uint32_t *unit, lanes by, int half) {
    words all = (words){0} + *unit;
#if MULTIPLIES_HALVES
    if (half) return (lanes)_mm512_dpbf16_ps((__m512)sum, (__m512bh)all, (__m512bh)by);
#endif
    return sum + (lanes)all * by;
}

int multiplies_halves(void) { return MULTIPLIES_HALVES; }

INLINE lanes paired(const uint16_t *low, const uint16_t *high) {
    halves a, b;
    memcpy(&a, low, sizeof a), memcpy(&b, high, sizeof b);
    return (lanes)(__builtin_convertvector(a, words) | __builtin_convertvector(b, words) << 16);
}

INLINE size_t bytes_of(long numbers, int half) { return numbers * (half ? 2 : 4); }

/* One image with a border of zeros, optionally after ReLU. */
static void pad(const void *x, void *to, long height, long width, long channels, int border, int relu_first, int half) {
    size_t wide = bytes_of((width + 2 * border) * channels, half), row = bytes_of(width * channels, half);
    size_t side = bytes_of(border * channels, half);
    memset(to, 0, border * wide);
    for (long h = 0; h < height; h++) {
        char *at = (char *)to + (h + border) * wide;
        const char *from = (const char *)x + h * row;
        memset(at, 0, side), memset(at + side + row, 0, side);
        if (relu_first)
            relu(from, at + side, width * channels, half);
        else
            memcpy(at + side, from, row);
    }
    memset((char *)to + (height + border) * wide, 0, border * wide);
}

/* The kernel [out, area, in] as units [area, in (or pairs of them), out]. */
static void pack(const float *kernel, uint32_t *to, long out, long area, long in, int half) {
    long units = half ? in / 2 : in, each = half ? LANES / 2 : LANES;
    for (long o = 0; o < out; o++)
        for (long k = 0; k < area; k++)
            for (long i = 0; i < in; i += LANES) {
                uint32_t tile[LANES];
                store(tile, 0, load(kernel, (o * area + k) * in + i, 0, LANES), half, LANES);
                for (long u = 0; u < each; u++) to[(k * units + (half ? i / 2 : i) + u) * out + o] = tile[u];
            }
}

/* The kernel turned by 180 degrees, for the gradient of the input: [area, out (or pairs of them), in]. */
static void pack_turned(const float *kernel, uint32_t *to, long out, long area, long in, int half) {
    for (long o = 0; o < out; o += 1 + half)
        for (long k = 0; k < area; k++)
            for (long i = 0; i < in; i += LANES) {
                const float *at = kernel + (o * area + area - 1 - k) * in + i;
                lanes value = load(at, 0, 0, LANES);
                if (half) {
                    halves low = rounded(value), high = rounded(load(at, area * in, 0, LANES));
                    value = paired((uint16_t *)&low, (uint16_t *)&high);
                }
                store(to, ((k * out + o) / (1 + half)) * in + i, value, 0, LANES);
            }
}

/* Computes `pixels` of a row and `vectors` times LANES channels of the output at a time, whose sums stay in registers.
 * Columns of the kernel and units of a pixel are contiguous in memory. */
INLINE void conv_block(const uint32_t *image, const uint32_t *weights, void *y, const void *cut, long height,
                       long width, long units, long channels, int kernel, int half, int pixels, int vectors) {
    long wide = (width + kernel - 1) * units;
    for (long first = 0; first < channels; first += vectors * LANES)
        for (long h = 0; h < height; h++)
            for (long w = 0; w < width; w += pixels) {
                lanes sums[32];
#pragma GCC unroll 32
                for (int i = 0; i < pixels * vectors; i++) sums[i] = (lanes){0};
                span rows = inside(h - kernel / 2, kernel, height); /* the units of the border are zeros */
                const uint32_t *by = weights + rows.first * kernel * units * channels + first;
                for (int k = rows.first; k < rows.last; k++) {
                    const uint32_t *from = image + (h + k) * wide + w * units;
                    for (long u = 0; u < kernel * units; u++, by += channels) {
                        lanes low = load(by, 0, 0, LANES), high = vectors > 1 ? load(by, LANES, 0, LANES) : low;
#pragma GCC unroll 32
                        for (int p = 0; p < pixels; p++) {
                            sums[p] = multiplied(sums[p], from + p * units + u, low, half);
                            if (vectors > 1)
                                sums[pixels + p] = multiplied(sums[pixels + p], from + p * units + u, high, half);
                        }
                    }
                }
#pragma GCC unroll 32
                for (int i = 0; i < pixels * vectors; i++) {
                    long at = (h * width + w + i % pixels) * channels + first + i / pixels * LANES;
                    store(y, at, cut ? positive(sums[i], load(cut, at, half, LANES)) : sums[i], half, LANES);
                }
            }
}

/* The convolution of a padded image; if `cut` is not NULL, zero at every place at which `cut` is not above zero. */
static void conv_image(const void *image, const uint32_t *weights, void *y, const void *cut, long height, long width,
                       long channels_in, long channels, int kernel, int half) {
    long units = half ? channels_in / 2 : channels_in;
#define CONV(UNITS, HALF)                                                                                 \
    do {                                                                                                  \
        if (LANES == 8)                                                                                   \
            conv_block(image, weights, y, cut, height, width, UNITS, channels, kernel, HALF, 4, VECTORS); \
        else if (channels % 32 == 0)                                                                      \
            conv_block(image, weights, y, cut, height, width, UNITS, channels, kernel, HALF, 8, 2);       \
        else if (width % 16 == 0)                                                                         \
            conv_block(image, weights, y, cut, height, width, UNITS, channels, kernel, HALF, 16, 1);      \
        else                                                                                              \
            conv_block(image, weights, y, cut, height, width, UNITS, channels, kernel, HALF, 8, 1);       \
    } while (0)
#define CONV_OF(UNITS)                 \
    do {                               \
        if (MULTIPLIES_HALVES && half) \
            CONV(UNITS, 1);            \
        else                           \
            CONV(UNITS, 0);            \
    } while (0)
    switch (units) { /* constants, so that the offsets of pixels are part of the instructions */
    case 8:
        CONV_OF(8);
        break;
    case 16:
        CONV_OF(16);
        break;
    case 32:
        CONV_OF(32);
        break;
    case 64:
        CONV_OF(64);
        break;
    default:
        CONV_OF(units);
    }
}

/* Adds the contribution of one image to `sums` [kernel, kernel, in, out]. `x` holds padded units of a pixel and the
 * next one; `dy` has `pairs` units for each row, with `row` between the starts of rows. The sums of a row of the
 * kernel, `together` channels of the input and `vectors` times LANES channels of the output stay in registers. */
INLINE void weights_block(const uint32_t *x, const uint32_t *dy, float *sums, long height, long width, long row,
                          long channels_in, long channels, int kernel, int half, int together, int vectors) {
    long wide = (width + kernel - 1) * channels_in, step = 1 + half;
    for (long first = 0; first < channels; first += vectors * LANES)
        for (int k = 0; k < kernel; k++)
            for (long in = 0; in < channels_in; in += together) {
                lanes kept[24];
#pragma GCC unroll 24
                for (int i = 0; i < kernel * together * vectors; i++) kept[i] = (lanes){0};
                span rows = inside(k - kernel / 2, height, height); /* other pixels are multiplied by the border */
                for (long h = rows.first; h < rows.last; h++) {
                    const uint32_t *from = x + (h + k) * wide + in, *slope = dy + h * row + first;
                    for (long w = 0; w < width; w += step, from += step * channels_in, slope += channels) {
                        lanes low = load(slope, 0, 0, LANES), high = vectors > 1 ? load(slope, LANES, 0, LANES) : low;
#pragma GCC unroll 24
                        for (int i = 0; i < kernel * together; i++) {
                            const uint32_t *unit = from + i / together * channels_in + i % together;
                            kept[i * vectors] = multiplied(kept[i * vectors], unit, low, half);
                            if (vectors > 1)
                                kept[i * vectors + 1] = multiplied(kept[i * vectors + 1], unit, high, half);
                        }
                    }
                }
#pragma GCC unroll 24
                for (int i = 0; i < kernel * together * vectors; i++) {
                    int place = i / vectors;
                    long at = ((k * kernel + place / together) * channels_in + in + place % together) * channels +
                              first + i % vectors * LANES;
                    store(sums, at, load(sums, at, 0, LANES) + kept[i], 0, LANES);
                }
            }
}

static void weights_image(const uint32_t *x, const uint32_t *dy, float *sums, long height, long width, long row,
                          long channels_in, long channels, int kernel, int half) {
#define WEIGHTS(HALF, KERNEL)                                                           \
    weights_block(x, dy, sums, height, width, row, channels_in, channels, KERNEL, HALF, \
                  (KERNEL == 1 ? 16 : 8) / (VECTORS * VECTORS), VECTORS)
    if (kernel == 1) {
        if (MULTIPLIES_HALVES && half)
            WEIGHTS(1, 1);
        else
            WEIGHTS(0, 1);
    } else {
        if (MULTIPLIES_HALVES && half)
            WEIGHTS(1, 3);
        else
            WEIGHTS(0, 3);
    }
}

/* Takes `count` numbers of 32 bits from the memory at `*rest`, which advances: aligned to 64 bytes, with some numbers
 * after them that may be read. */
INLINE void *part_of(uint32_t **rest, long count) {
    uint32_t *part = *rest;
    *rest += (count + 31) / 16 * 16;
    return part;
}

/* Writes the convolution of x to `z`, and its batch norm, added to `onto`, to `y`, if these are not NULL. `weights` is
 * [out, kernel, kernel, in]. */
int conv_norm(const void *x, const float *weights, const void *onto, void *z, void *y, long images, long height,
              long width, long channels_in, long channels, int kernel, int relu_first, const float *weight,
              const float *bias, float eps, float *mean, float *variance, int relu_after, int half) {
    int border = kernel / 2;
    long of_weights = kernel * kernel * channels_in * channels;
    long of_image = (height + 2 * border) * (width + 2 * border) * channels_in;
    uint32_t *memory = aligned_alloc(64, bytes_of((of_weights + of_image) / 16 * 16 + 64, 0)), *rest = memory;
    if (!memory) return 0;
    uint32_t *packed = part_of(&rest, of_weights);
    void *padded = part_of(&rest, of_image);
    pack(weights, packed, channels, kernel * kernel, channels_in, half);
    for (long image = 0; image < images; image++) {
        const char *from = (const char *)x + image * bytes_of(height * width * channels_in, half);
        char *to = (char *)z + image * bytes_of(height * width * channels, half);
        if (border || relu_first) pad(from, padded, height, width, channels_in, border, relu_first, half);
        conv_image(border || relu_first ? padded : from, packed, to, NULL, height, width, channels_in, channels, kernel,
                   half);
    }
    free(memory);
    if (y)
        norm_relu(z, onto, y, images * height * width, channels, weight, bias, eps, mean, variance, relu_after, half);
    return 1;
}

/* Gradients of conv_norm. If `dx` is NULL it is not computed. `dweights` is [out, kernel, kernel, in]; the other
 * arguments are as for norm_relu_backward. If `mean` is NULL they are ignored, and `dy` is the slope of the convolution
 * itself. */
int conv_norm_backward(const void *x, const float *weights, const void *z, const void *dy, void *dx, float *dweights,
                       long images, long height, long width, long channels_in, long channels, int kernel,
                       int relu_first, const float *weight, const float *bias, float eps, const float *mean,
                       const float *variance, float *dweight, float *dbias, int relu_after, int half) {
    int border = kernel / 2, area = kernel * kernel;
    long wide = width + 2 * border, padded_pixels = (height + 2 * border) * wide, pixels = height * width;
    long of_weights = area * channels_in * channels, of_input = padded_pixels * channels_in;
    long of_slopes = padded_pixels * channels, of_pairs = pixels * channels / 2;
    long all = 2 * (of_weights + of_input) + of_slopes + of_pairs;
    uint32_t *memory = aligned_alloc(64, bytes_of(all / 16 * 16 + 6 * 32, 0)), *rest = memory;
    if (!memory) return 0;
    uint32_t *packed = part_of(&rest, of_weights), *input_pairs = part_of(&rest, of_input),
             *slope_pairs = part_of(&rest, of_pairs);
    float *sums = part_of(&rest, of_weights);
    char *input = part_of(&rest, of_input), *slopes = part_of(&rest, of_slopes);
    float scale[channels], shift[channels], steepness[channels], offset[channels];
    if (mean)
        norm_slopes(z, dy, images * pixels, channels, weight, bias, eps, mean, variance, dweight, dbias, scale, shift,
                    steepness, offset, relu_after, half);
    if (dx) pack_turned(weights, packed, channels, area, channels_in, half);
    memset(sums, 0, bytes_of(area * channels_in * channels, 0));
    memset(slopes, 0, bytes_of(padded_pixels * channels, half));
    for (long image = 0; image < images; image++) {
        size_t from = image * bytes_of(pixels * channels_in, half), begin = image * pixels;
        const char *here = (const char *)x + from;
        pad(here, input, height, width, channels_in, border, relu_first, half);
        for (long h = 0; h < height; h++) {
            long start = begin + h * width, end = start + width;
            char *to = slopes + bytes_of(((h + border) * wide + border) * channels, half);
            if (mean) {
                slopes_of_rows(z, dy, to - bytes_of(start * channels, half), start, end, channels, scale, shift, mean,
                               steepness, offset, relu_after, half);
            } else {
                memcpy(to, (const char *)dy + bytes_of(start * channels, half), bytes_of(width * channels, half));
            }
        }
        if (dx)
            conv_image(slopes, packed, (char *)dx + from, relu_first ? here : NULL, height, width, channels,
                       channels_in, kernel, half);
        if (half) {
            const uint16_t *of = (const uint16_t *)input, *slope = (const uint16_t *)slopes;
            for (long i = 0; i < padded_pixels * channels_in; i += LANES)
                store(input_pairs, i, paired(of + i, of + i + channels_in), 0, LANES);
            for (long h = 0; h < height; h++)
                for (long w = 0; w < width; w += 2)
                    for (long i = 0; i < channels; i += LANES) {
                        const uint16_t *at = slope + ((h + border) * wide + border + w) * channels + i;
                        store(slope_pairs, (h * width + w) / 2 * channels + i, paired(at, at + channels), 0, LANES);
                    }
            weights_image(input_pairs, slope_pairs, sums, height, width, width / 2 * channels, channels_in, channels,
                          kernel, 1);
        } else {
            const uint32_t *slope = (const uint32_t *)slopes + (border * wide + border) * channels;
            weights_image((const uint32_t *)input, slope, sums, height, width, wide * channels, channels_in, channels,
                          kernel, 0);
        }
    }
    for (long o = 0; o < channels; o++)
        for (long i = 0; i < area * channels_in; i++) dweights[o * area * channels_in + i] = sums[i * channels + o];
    free(memory);
    return 1;
}
