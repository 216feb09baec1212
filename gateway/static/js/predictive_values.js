// Predictive values: what a result means where the finding is more or less common.

/**
 * Return the `positive` and `negative` predictive value at a prevalence (Bayes' theorem); null where no result is
 * expected. All values are fractions.
 */
export function predictiveValues(sensitivity, specificity, prevalence) {
  const ratio = (right, wrong) => (right + wrong > 0 ? right / (right + wrong) : null);
  return {
    positive: ratio(sensitivity * prevalence, (1 - specificity) * (1 - prevalence)),
    negative: ratio(specificity * (1 - prevalence), (1 - sensitivity) * prevalence),
  };
}

const odds = (share) => share / (1 - share);

/** Return a probability that assumed the prevalence `before`, at the prevalence `after` (handlers.threshold.shift). */
export function shiftProbability(probability, before, after) {
  const factor = odds(after) / odds(before);
  return (probability * factor) / (probability * factor + 1 - probability);
}
