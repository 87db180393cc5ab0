"""Wrong answers to the exercises, as readers write them: exercise → [(tag of the misconception,
source), …]. Written by hand, in other words than the judge's own formulas."""

UNIT = "return [x / math.hypot(*v) for x in v]"
MEAN = "(first + second) / (2 * n)"
SOFTMAX = "e = [math.exp(s - max(row)) for s in row]; weights = [x / sum(e) for x in e]"
UNSAFE = "e = [math.exp(s) for s in row]; weights = [x / sum(e) for x in e]"
PLACES = """tops = [max(t[j] for t in table) for j in range(len(keys))]
        sums = [sum(math.exp(t[j] - tops[j]) for t in table) for j in range(len(keys))]
        weights = [math.exp(row[j] - tops[j]) / sums[j] for j in range(len(keys))]"""

WRONG = {
    "add_noise": [
        ("no_square_root", """
def add_noise(x0, noise, alpha_bar):
    out = []
    for i in range(len(x0)):
        out.append(alpha_bar * x0[i] + (1 - alpha_bar) * noise[i])
    return out
"""),
        ("weights_add_to_one", """
def add_noise(x0, noise, alpha_bar):
    a = alpha_bar ** 0.5
    return [a * p + (1 - a) * q for p, q in zip(x0, noise)]
"""),
        ("swapped", """
def add_noise(x0, noise, alpha_bar):
    keep, lose = alpha_bar ** 0.5, (1 - alpha_bar) ** 0.5
    return [lose * p + keep * q for p, q in zip(x0, noise)]
"""),
        ("noise_not_scaled", """
def add_noise(x0, noise, alpha_bar):
    return [alpha_bar ** 0.5 * p + q for p, q in zip(x0, noise)]
"""),
        ("signal_not_faded", """
def add_noise(x0, noise, alpha_bar):
    return [p + q * (1 - alpha_bar) ** 0.5 for p, q in zip(x0, noise)]
"""),
        ("variance_exploding", """
def add_noise(x0, noise, alpha_bar):
    sigma = ((1 - alpha_bar) / alpha_bar) ** 0.5
    return [p + sigma * q for p, q in zip(x0, noise)]
"""),
    ],
    "x0_from_eps": [
        ("not_divided", """
def x0_from_eps(x, eps, alpha_bar):
    return [a - (1 - alpha_bar) ** 0.5 * e for a, e in zip(x, eps)]
"""),
        ("divided_too_early", """
def x0_from_eps(x, eps, alpha_bar):
    return [a / alpha_bar ** 0.5 - (1 - alpha_bar) ** 0.5 * e for a, e in zip(x, eps)]
"""),
        ("no_square_root", """
def x0_from_eps(x, eps, alpha_bar):
    return [(a - (1 - alpha_bar) * e) / alpha_bar for a, e in zip(x, eps)]
"""),
        ("noise_added", """
def x0_from_eps(x, eps, alpha_bar):
    return [(a + (1 - alpha_bar) ** 0.5 * e) / alpha_bar ** 0.5 for a, e in zip(x, eps)]
"""),
        ("noise_not_scaled", """
def x0_from_eps(x, eps, alpha_bar):
    return [(a - e) / alpha_bar ** 0.5 for a, e in zip(x, eps)]
"""),
        ("swapped", """
def x0_from_eps(x, eps, alpha_bar):
    return [(a - alpha_bar ** 0.5 * e) / (1 - alpha_bar) ** 0.5 for a, e in zip(x, eps)]
"""),
        ("sigma_form", """
def x0_from_eps(x, eps, alpha_bar):
    sigma = (1 / alpha_bar - 1) ** 0.5
    return [a - sigma * e for a, e in zip(x, eps)]
"""),
    ],
    "kl": [
        ("log_var_is_var", """
import math
def kl(mean, log_var):
    return sum(0.5 * (m ** 2 + v - 1 - math.log(v)) for m, v in zip(mean, log_var))
"""),
        ("log_of_deviation", """
import math
def kl(mean, log_var):
    total = 0
    for m, s in zip(mean, log_var):
        total += 0.5 * (m ** 2 + math.exp(s) ** 2 - 1) - s
    return total
"""),
        ("no_half", """
import math
def kl(mean, log_var):
    return sum(m ** 2 + math.exp(v) - 1 - v for m, v in zip(mean, log_var))
"""),
        ("no_minus_one", """
import math
def kl(mean, log_var):
    return 0.5 * sum(m ** 2 + math.exp(v) - v for m, v in zip(mean, log_var))
"""),
        ("sign_of_log", """
import math
def kl(mean, log_var):
    return 0.5 * sum(m ** 2 + math.exp(v) - 1 + v for m, v in zip(mean, log_var))
"""),
        ("negative", """
import math
def kl(mean, log_var):
    return -0.5 * sum(m ** 2 + math.exp(v) - 1 - v for m, v in zip(mean, log_var))
"""),
        ("mean_not_squared", """
import math
def kl(mean, log_var):
    return 0.5 * sum(m + math.exp(v) - 1 - v for m, v in zip(mean, log_var))
"""),
        ("averaged", """
import math
def kl(mean, log_var):
    terms = [0.5 * (m ** 2 + math.exp(v) - 1 - v) for m, v in zip(mean, log_var)]
    return sum(terms) / len(terms)
"""),
    ],
    "info_nce": [(tag, f"""
import math
def info_nce(images, texts, temperature):
    def prepare(v):
        {prepare}
    a, b = [prepare(v) for v in images], [prepare(v) for v in texts]
    n = len(a)
    l = [[sum(p * q for p, q in zip(a[i], b[j])) {scale} for j in range(n)] for i in range(n)]
    first = second = 0.0
    for i in range(n):
        first += math.log(sum(math.exp(l[i][j]) for j in range(n) {keep})) - l[i][i]
        second += math.log(sum(math.exp(l[j][i]) for j in range(n) {keep})) - l[i][i]
    return {result}
""") for tag, prepare, scale, keep, result in [
        ("not_normalized", "return v", "/ temperature / 1", "", MEAN),
        ("one_direction", UNIT, "/ temperature", "", "first / n"),
        ("other_direction", UNIT, "/ temperature", "", "second / n"),
        ("temperature_multiplied", UNIT, "* temperature", "",
         MEAN),
        ("no_temperature", UNIT, "", "", MEAN),
        ("right_pair_left_out", UNIT, "/ temperature", "if j != i",
         MEAN),
        ("summed", UNIT, "/ temperature", "", "(first + second) / 2"),
        ("sides_added", UNIT, "/ temperature", "", "(first + second) / n"),
    ]],
    "cross_attention": [(tag, f"""
import math
def cross_attention(queries, keys, values):
    d, out = len(queries[0]), []
    table = [[sum(x * y for x, y in zip(q, k)) / {divide} for k in keys] for q in queries]
    for row in table:
        {weights}
        out.append([sum(w * v[c] for w, v in zip(weights, {read})) for c in range(d)])
    return out
""") for tag, divide, weights, read in [
        ("overflow", "d ** 0.5", UNSAFE,
         "values"),
        ("not_scaled", "1", SOFTMAX,
         "values"),
        ("divided_by_d", "d", SOFTMAX,
         "values"),
        ("softmax_over_places", "d ** 0.5", PLACES, "values"),
        ("keys_read", "d ** 0.5",
         SOFTMAX, "keys"),
        ("no_softmax", "d ** 0.5", "weights = row", "values"),
        ("hardest", "d ** 0.5", "weights = [1 if s == max(row) else 0 for s in row]", "values"),
        ("shares", "d ** 0.5", "weights = [s / sum(row) for s in row]", "values"),
    ]],
    "cfg": [(tag, f"""
def cfg(cond, uncond, scale):
    result = []
    for c, u in zip(cond, uncond):
        result.append({term})
    return result
""") for tag, term in [
        ("starts_at_cond", "(1 + scale) * c - scale * u"),
        ("clamped", "u + min(scale, 1) * (c - u)"),
        ("reversed", "(1 + scale) * u - scale * c"),
        ("swapped", "scale * u + (1 - scale) * c"),
        ("weighted_mean", "u / (1 + scale) + c * scale / (1 + scale)"),
        ("only_cond", "c * scale"),
        ("difference_only", "scale * c - scale * u"),
    ]],
    "euler_step": [(tag, f"""
def euler_step(x, x0, sigma, sigma_next):
    result = []
    for a, clean in zip(x, x0):
        d = (a - clean) / sigma
        result.append({term})
    return result
""") for tag, term in [
        ("wrong_direction", "a - d * (sigma_next - sigma)"),
        ("slope_not_divided", "a + d * sigma * (sigma_next - sigma)"),
        ("jumps_to_x0", "clean"),
        ("not_the_difference", "a + d * sigma_next"),
        ("divided_by_sigma_next", "a + (a - clean) / sigma_next * (sigma_next - sigma)"),
        ("starts_at_x0", "clean + d * (sigma_next - sigma)"),
        ("proportion_reversed", "clean + (a - clean) * (sigma - sigma_next) / sigma"),
    ]],
    "heun_step": [(tag, f"""
def heun_step(x, denoise, sigma, sigma_next):
    h = sigma_next - sigma
    clean = denoise(x, sigma)
    d = [(a - b) / sigma for a, b in zip(x, clean)]
    x2 = [a + h * k for a, k in zip(x, d)]
    if sigma_next == 0 and {guard}:
        return x2
    clean2 = denoise({place}, {level})
    d2 = [(a - b) / {by} for a, b in zip({place}, clean2)]
    return [a + h * ({mean}) for a, k, k2 in zip({start}, d, d2)]
""") for tag, guard, place, level, by, mean, start in [
        ("still_euler", "True", "x2", "sigma_next", "sigma_next", "k", "x"),
        ("no_last_step", "False", "x2", "sigma_next", "sigma_next", "(k + k2) / 2", "x"),
        ("second_at_old_level", "True", "x2", "sigma", "sigma", "(k + k2) / 2", "x"),
        ("second_at_old_level", "True", "x2", "sigma", "sigma_next", "(k + k2) / 2", "x"),
        ("second_at_old_place", "True", "x", "sigma_next", "sigma_next", "(k + k2) / 2", "x"),
        ("only_second_slope", "True", "x2", "sigma_next", "sigma_next", "k2", "x"),
        ("sum_of_slopes", "True", "x2", "sigma_next", "sigma_next", "k + k2", "x"),
        ("corrects_from_x2", "True", "x2", "sigma_next", "sigma_next", "(k + k2) / 2", "x2"),
        ("divided_by_old_sigma", "True", "x2", "sigma_next", "sigma", "(k + k2) / 2", "x"),
    ]],
    "karras_sigmas": [
        ("linear", """
def karras_sigmas(n, sigma_min, sigma_max, rho):
    return [sigma_max - (sigma_max - sigma_min) * i / (n - 1) for i in range(n)]
"""),
        ("not_raised_back", """
def karras_sigmas(n, sigma_min, sigma_max, rho):
    a, b = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [a * (1 - i / (n - 1)) + b * i / (n - 1) for i in range(n)]
"""),
        ("exponents_exchanged", """
def karras_sigmas(n, sigma_min, sigma_max, rho):
    a, b = sigma_max ** rho, sigma_min ** rho
    return [(a + (b - a) * i / (n - 1)) ** (1 / rho) for i in range(n)]
"""),
        ("exponential", """
def karras_sigmas(n, sigma_min, sigma_max, rho):
    return [sigma_max * (sigma_min / sigma_max) ** (i / (n - 1)) for i in range(n)]
"""),
        ("divided_by_n", """
def karras_sigmas(n, sigma_min, sigma_max, rho):
    a, b = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(a + (b - a) * i / n) ** rho for i in range(n)]
"""),
        ("upwards", """
def karras_sigmas(n, sigma_min, sigma_max, rho):
    a, b = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(b + (a - b) * i / (n - 1)) ** rho for i in range(n)]
"""),
        ("ends_in_zero", """
def karras_sigmas(n, sigma_min, sigma_max, rho):
    a, b = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return [(a + (b - a) * i / (n - 1)) ** rho for i in range(n)] + [0]
"""),
    ],
}  # fmt: skip
