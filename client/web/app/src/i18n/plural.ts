const rules = new Map<string, Intl.PluralRules>();

/** plural picks the form that a language uses for a number; `other` where it has no form of its own. */
export function plural(
  locale: string,
  n: number,
  forms: { other: string } & Partial<Record<Intl.LDMLPluralRule, string>>,
): string {
  let rule = rules.get(locale);
  if (!rule) {
    rule = new Intl.PluralRules(locale);
    rules.set(locale, rule);
  }
  return forms[rule.select(n)] ?? forms.other;
}
