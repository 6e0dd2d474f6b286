'use strict';
// What is said of a handful of measurements.

/** The middle one. */
function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

/** The value that the share `p` of the numbers does not exceed. */
function percentile(numbers, p) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)];
}

/**
 * The 95 % confidence interval for the middle of what was measured, by Wilcoxon's signed
 * rank test: of the means of all pairs, as many are left out at each end as that test
 * would reject. With fewer than six measurements there is none, and all lie within.
 */
function interval(numbers) {
  const means = [];
  for (let i = 0; i < numbers.length; i++) {
    for (let j = i; j < numbers.length; j++) means.push((numbers[i] + numbers[j]) / 2);
  }
  means.sort((a, b) => a - b);
  const left = rejected(numbers.length);
  return [means[left], means[means.length - 1 - left]];
}

/** How many sums of ranks of `n` measurements are, at each end, less likely than 2.5 %. */
function rejected(n) {
  // In how many ways signs can be given to the ranks so that the positive ones sum to i.
  let ways = [1];
  for (let rank = 1; rank <= n; rank++) {
    const more = new Array(ways.length + rank).fill(0);
    ways.forEach((count, sum) => { more[sum] += count; more[sum + rank] += count; });
    ways = more;
  }
  let below = 0;
  let sum = 0;
  while (below + ways[sum] <= 0.025 * 2 ** n) below += ways[sum++];
  return sum;
}

module.exports = { interval, median, percentile };
