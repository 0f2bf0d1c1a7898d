// Axes of the charts: where a value lies between the least and the most, and which values are named.

const MINUTE = 60;
const HOUR = 60 * MINUTE;
// Round durations in seconds: 1, 2 and 5 of each power of ten, and of minutes and hours.
const DURATIONS = [
  ...[-6, -5, -4, -3, -2, -1].flatMap((power) => [1, 2, 5].map((factor) => Number(`${factor}e${power}`))),
  1, 2, 5, 10, 20, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 5 * HOUR, 10 * HOUR, 20 * HOUR, 50 * HOUR,
];
const DECADES = [1e-6, 1e-5, 1e-4, 0.001, 0.01, 0.1, 1, 10, MINUTE, 10 * MINUTE, HOUR, 10 * HOUR, 100 * HOUR];
const THOUSANDS = [1e-6, 0.001, 1, MINUTE, HOUR, 100 * HOUR];
const LABELS_MAX = 6;

// Round steps of 1, 2 or 5, three to five of them up to the most.
export function linearTicks(most, isWhole) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const round = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const step = isWhole ? Math.max(1, round) : round;
  const found = [];
  for (let value = 0; value <= most + step * 0.999; value += step) found.push(value);
  return found;
}

// Round durations from at most the least to at least the most value; few enough to be read.
export function durationTicks(values) {
  const positive = values.filter((value) => value > 0);
  const least = positive.length === 0 ? 0.001 : Math.min(...positive);
  const most = positive.length === 0 ? 0.1 : Math.max(...positive);
  const around = (rounds) => {
    const first = Math.max(0, rounds.findLastIndex((one) => one <= least));
    const end = rounds.findIndex((one) => one >= most);
    return rounds.slice(first, Math.max(first + 2, end < 0 ? rounds.length : end + 1));
  };
  const candidates = [DURATIONS, DECADES, THOUSANDS].map(around);
  return candidates.find((ticks) => ticks.length <= LABELS_MAX) ?? candidates.at(-1);
}

// The part of the axis below a value, from 0 to 1.
export const linear = (ticks) => (value) => value / ticks.at(-1);

export function logarithmic(ticks) {
  const [low, high] = [Math.log(ticks[0]), Math.log(ticks.at(-1))];
  return (value) => Math.min(1, Math.max(0, (Math.log(Math.max(value, ticks[0])) - low) / (high - low)));
}
