"""The words and numbers of a report as people read them, in English and Japanese."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from abmail.report import Language

__all__ = ["EN", "JA", "Words", "words_for"]

_STOPS = (".", "!", "?", "。", "！", "？")
_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """One language's phrases. Braces name the values that the page puts in."""

    language: Language
    stop: str
    comma: str
    semicolon: str
    colon: str
    days: str
    hours: str
    minutes: str
    seconds: str
    points: str
    interval: str
    under: str
    states: Mapping[str, str]
    goals: Mapping[str, str]
    subtitle: str
    question: str
    # headline and decision
    nothing_sent: str
    headlines: Mapping[str, str]
    control_wins: str
    stopped_with: str
    split_off: str
    # facts
    audience: str
    sent: str
    held_out: str
    pending: str
    failed: str
    uncertain: str
    # variants
    variants: str
    variant: str
    contents: str
    control: str
    baseline: str
    opens: str
    clicks: str
    rates: Mapping[str, str]
    difference: str
    relative: str
    p_best: str
    share: str
    first_share: str
    statuses: Mapping[str, str]
    other_status: str
    nothing_to_compare: str
    starting_variants: str
    no_differences: str
    note_rate: Mapping[str, str]
    note_points: str
    note_interval: str
    note_waves: str
    note_best: str
    note_share: str
    # decision and checks
    decision: str
    checks: str
    sample_ratio: str
    srm_ok: str
    srm_bad: str
    srm_unknown: str
    maturity: str
    mature_all: str
    mature_none: str
    mature_part: Mapping[str, str]
    machines: str
    machines_same: str
    machines_change: str
    machines_decide: str
    machines_uneven: str
    guardrails: str
    guardrails_ok: str
    guardrails_near: str
    guardrails_bad: str
    guardrail_limit: str
    guardrail_breach: str
    delivery: str
    delivery_failed: str
    delivery_uncertain: str
    send_time: str
    send_times: Mapping[str, str]
    own_time: str
    send_effect: str
    send_skipped: str
    send_hours: str
    send_hours_lead: str
    send_hour: str
    alert: str
    passed: str
    attention: str
    failed_check: str
    # further tables
    metrics: Mapping[str, str]
    limit: str
    factors: str
    factor: str
    factor_names: Mapping[str, str]
    factors_lead: str
    factors_together: Mapping[str, str]
    level: str
    segments: str
    segments_by: str
    segment: str
    no_value: str
    segment_winner: str
    best_guess: str
    segments_cut: str
    note_segment: str
    note_best_guess: str
    note_attributes: str
    values: str
    values_lead: Mapping[str, str]
    valued: Mapping[str, str]
    total: str
    per_mail: str
    values_cap: str
    values_open: str
    second: str
    second_lead: str
    verdicts: Mapping[str, str]
    second_says: str
    allocation: str
    segment_shares: str
    waves: str
    wave: str
    opened_at: str
    waves_cut: str
    one_wave: str
    waves_lead: str
    more: str
    p_value: str
    loss: str
    note_p_value: str
    note_loss: str
    machine_table: str
    views: Mapping[str, str]
    kinds: Mapping[str, str]
    view_decision: str
    machine_shares: str
    reclassified: str
    unjudged: str
    beside: str
    next_steps: str
    # footer
    method: str
    looks: str
    any_looks: str
    made_by: str
    # charts
    chart_effects: str
    chart_effects_note: str
    chart_axis: str
    chart_weights: str
    chart_weights_note: str
    chart_weights_axis: str
    chart_curves: Mapping[str, str]
    chart_curves_note: str
    chart_curves_axis: str
    chart_habits: str
    chart_habits_kind: str
    chart_habits_note: str
    chart_habits_summary: str
    chart_habits_axis: str
    weekdays: str
    chart_delays: str
    chart_delays_note: str
    every_variant: str
    other_variants: str
    chart_cut: str

    def count(self, number: int) -> str:
        """A whole number with thousands separators."""
        return f"{number:,}"

    def percent(self, fraction: float, *, digits: int = 1) -> str:
        """A fraction as a percentage without superfluous zeros: 0.4 -> "40%"."""
        text = f"{100 * fraction:.{digits}f}"
        return _minus(text.rstrip("0").rstrip(".") if "." in text else text) + "%"

    def share_of(self, fraction: float) -> str:
        """A share of a wave with one digit, so that a column of them lines up."""
        return f"{100 * fraction:.1f}%"

    def rate(self, fraction: float) -> str:
        """A rate with the digits that matter for mail: two below 10 %, one above."""
        return f"{100 * fraction:.{2 if fraction < 0.0995 else 1}f}%"

    def chance(self, probability: float) -> str:
        """A posterior probability in whole percent, never rounded to certainty."""
        if probability < 0.005:
            return "<1%"
        return ">99%" if probability > 0.995 else f"{100 * probability:.0f}%"

    def odds(self, p_value: float) -> str:
        """A p-value as the percentage of tests in which chance alone would do the same."""
        if p_value < 0.001:
            return self.under.format("0.1%")
        return self.percent(p_value) if p_value < 0.1 else self.percent(p_value, digits=0)

    def p(self, p_value: float) -> str:
        """A p-value with three digits."""
        return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"

    def difference_in_points(self, fraction: float, *, digits: int) -> str:
        """A signed difference in percentage points: 0.018 -> "+1.8 points"."""
        return self.points.format(signed(100 * fraction, digits))

    def range_in_points(self, lower: float, upper: float, *, digits: int) -> str:
        """An interval in percentage points: "(+0.4 to +3.2)"."""
        return self.interval.format(lower=signed(100 * lower, digits), upper=signed(100 * upper, digits))

    def signed_percent(self, fraction: float) -> str:
        """A relative change in whole percent: 0.234 -> "+23%"."""
        return signed(100 * fraction, 0) + "%"

    def amount(self, value: float, unit: str, *, sign: bool = False) -> str:
        """An amount with the digits that matter, and its unit: 1234.5 -> "1,234.50 EUR", 0.0123 -> "0.0123"."""
        size = abs(value)
        digits = 0 if size >= 10_000 or value == 0 else 2 if size >= 1 else 4
        text = _minus(f"{value:{'+' if sign and value else ''},.{digits}f}")
        return f"{text} {unit}".rstrip()

    def duration(self, seconds: int) -> str:
        """A span in its largest whole unit: 259200 -> "3 days"."""
        for size, phrase in ((_DAY, self.days), (_HOUR, self.hours), (_MINUTE, self.minutes)):
            if seconds and seconds % size == 0:
                return _plural(phrase, seconds // size)
        return _plural(self.seconds, seconds)

    def join(self, *sentences: str) -> str:
        """Sentences in a row, each with its full stop; empty ones are left out."""
        ended = [s if s.endswith(_STOPS) else s + ("." if s.isascii() else self.stop) for s in sentences if s]
        return ("" if self.language == "ja" else " ").join(ended)


def signed(number: float, digits: int) -> str:
    """A number with its sign; what rounds to zero has none."""
    text = f"{number:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else _minus(text)


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def _plural(phrase: str, number: int) -> str:
    singular, _, plural = phrase.partition("|")
    return (singular if number == 1 or not plural else plural).format(number)


EN = Words(
    language="en",
    stop=".",
    comma=", ",
    semicolon="; ",
    colon=": ",
    days="{} day|{} days",
    hours="{} hour|{} hours",
    minutes="{} minute|{} minutes",
    seconds="{} second|{} seconds",
    points="{} points",
    interval="({lower} to {upper})",
    under="under {}",
    states={"draft": "Draft", "running": "Running", "finished": "Finished", "stopped": "Stopped"},
    goals={"clicked": "clicks within {window} of the send", "opened": "opens within {window} of the send"},
    subtitle="{state} · goal: {goal} · as of {at}",
    question="Hypothesis",
    nothing_sent="Nothing has been sent yet",
    headlines={
        "winner": "{arm} wins",
        "leading": "{arm} is ahead, but not proven yet",
        "no_difference": "No difference worth acting on",
        "too_early": "Too early to say",
        "stopped": "Stopped before a result",
    },
    control_wins="The control, {arm}, stays the best",
    stopped_with="Stopped by hand; {arm} was chosen",
    split_off="The split is off: do not act on this result yet",
    audience="Audience",
    sent="Sent",
    held_out="Held out (get no mail)",
    pending="Waiting",
    failed="Failed",
    uncertain="Uncertain",
    variants="Variants",
    variant="Variant",
    contents="What they say",
    control="(control)",
    baseline="baseline",
    opens="Opens",
    clicks="Clicks",
    rates={"clicked": "Click rate", "opened": "Open rate"},
    difference="Difference from control",
    relative="Relative",
    p_best="Chance of being best",
    share="Current share",
    first_share="Starting share",
    statuses={
        "too_few": "too few to say",
        "zero_variance": "no successes to compare yet",
        "srm_failed": "withheld: the split is off",
    },
    other_status="no answer ({status})",
    nothing_to_compare="No mail has gone out, so there are no rates to compare. Waiting to be sent: {pending}",
    starting_variants="The variants and the share of the first wave that each will get",
    no_differences="No differences are shown yet ({reasons}). "
    "They appear once the variants have enough mails to compare",
    note_rate={
        "clicked": "Click rate: recipients who clicked within {window} of the send, out of all mails sent; "
        "recognised machine clicks are left out",
        "opened": "Open rate: recipients who opened within {window} of the send, out of all mails sent; "
        "recognised machine opens are left out, but mail programs that load images on their own blur this number",
    },
    note_points="Points are percentage points: from 4% to 5% is +1 point",
    note_interval="The range in brackets holds the true difference with {confidence} confidence; "
    "while it includes 0, the difference may be chance",
    note_waves="Differences are weighed wave by wave, so they need not equal the plain difference of two rates",
    note_best="Chance of being best is a guide for sharing out the next mails, not a guarantee",
    note_share="Current share is the part of each wave that a variant gets now; it moves towards what works",
    decision="Decision",
    checks="Can this be trusted?",
    sample_ratio="Sample ratio",
    srm_ok="Each variant got the share of mails that it was meant to get "
    "(chance alone shifts the shares this much in {odds} of tests)",
    srm_bad="The variants did not get the shares of mails that they were meant to get "
    "(chance alone shifts the shares this much in {odds} of tests). "
    "Do not act on the differences until the cause is found",
    srm_unknown="Too few mails to check the shares",
    maturity="Maturity",
    mature_all="All mails have had their {window}: the counts are final",
    mature_none="No mail has had its {window} yet: all counts can still grow",
    mature_part={
        "clicked": "{share} of the mails have had their {window}; the others can still bring clicks",
        "opened": "{share} of the mails have had their {window}; the others can still bring opens",
    },
    machines="Machine traffic",
    machines_same="Left out as machine-made: {removed} of {all}. Counting them would not change who leads",
    machines_change="Left out as machine-made: {removed} of {all}. Counted differently, another variant would lead: "
    "read the result with care",
    machines_decide="Another way of counting would decide otherwise: {views}",
    machines_uneven="Machines came to the variants unevenly ({shares}; by chance {odds}): "
    "links or lists may differ, read the result with care",
    guardrails="Guardrails",
    guardrails_ok="All variants are within the limits ({limits})",
    guardrails_near="Above a limit, by no more than chance allows: {breaches}",
    guardrails_bad="Over the limit: {breaches}",
    guardrail_limit="{metric} {limit}",
    guardrail_breach="{arm}, {metric} {rate} (limit {limit})",
    delivery="Delivery",
    delivery_failed="{count} failed for good",
    delivery_uncertain="{count} uncertain: the connection broke before the server confirmed. "
    "They are not sent again; `abmail settle` decides what to do with them",
    send_time="Send time",
    send_times={
        "fixed": "Sent when due{hours}",
        "learn": "Times are chosen per recipient{hours}",
        "test": "Times are being compared{hours}",
    },
    own_time="each recipient's own time",
    send_effect="Against the comparison time: {effect}",
    send_skipped="No hour was left for {count}",
    send_hours="Hours of sending",
    send_hours_lead="By the recipients' own clocks; only mails whose window has closed. The rates are those of "
    "everybody mailed at that hour, give or take the standard error",
    send_hour="Hour",
    alert="Problem: ",
    passed="good",
    attention="note",
    failed_check="problem",
    metrics={"unsubscribed": "Unsubscribes", "complained": "Spam complaints", "bounced": "Bounces"},
    limit="limit {limit}",
    factors="What each part does",
    factor="Part: {factor}",
    factor_names={
        "subject": "Subject line",
        "cta": "Call to action",
        "preheader": "Preheader",
        "from_name": "Sender name",
        "body": "Body",
    },
    factors_lead="Each part of the mail on its own, averaged over the others",
    factors_together={
        "surely": "Some parts act together (chance {chance}): go by whole variants, not by the parts alone",
        "hardly": "The parts act each on its own (chance that some act together: {chance}): the best ones go together",
        "unknown": "Whether some parts act together is not known yet (chance {chance})",
    },
    level="Version",
    segments="By segment",
    segments_by="By segment: {by}",
    segment="{by}: {value}",
    no_value="(not given)",
    segment_winner="{segment} (winner: {arm})",
    best_guess="Best guess",
    segments_cut="Shown are the {shown} largest of {all} segments; {left_out} smaller ones are compared and left out",
    note_segment="Each range is for its segment alone: of many ranges, some miss by chance. A winner is named only "
    "where the segments are proved to differ",
    note_best_guess="Best guess: the difference drawn towards the other segments by as much as they agree; small "
    "segments are drawn most",
    note_attributes="Who tries one attribute after another will find one that seems to matter, by chance alone",
    values="What each mail brings in",
    values_lead={
        "converted": "Conversions within {window} of the send, summed per mail; mails without one count as 0",
        "replied": "Replies within {window} of the send, summed per mail; mails without one count as 0",
    },
    valued={"converted": "Converted", "replied": "Replied"},
    total="Total",
    per_mail="Per mail",
    values_cap="One mail counts at most {limit} ({capped} brought in more); the totals are uncapped",
    values_open="Mails whose window is still open take part: the amounts will rise",
    second="A second look, not registered beforehand: it decides nothing",
    second_lead="Method {method}, level {alpha}, {verdicts}",
    verdicts={
        "human-likely": "machine traffic left out",
        "all": "machine traffic included",
        "strict": "only what nothing speaks against",
    },
    second_says="It would say: {headline}",
    allocation="How the mail is shared",
    segment_shares="Shares of the last wave",
    waves="Waves",
    wave="Wave",
    opened_at="Opened (UTC)",
    waves_cut="Shown: the control and the variants with the largest share, {shown} of {all}",
    one_wave="One wave so far: the shares have not been changed yet",
    waves_lead="{count} waves since {since}; the shares are set again for each wave from what is known by then",
    more="More numbers per variant",
    p_value="p-value",
    loss="Risk if chosen",
    note_p_value="p-value: how often chance alone would show a difference at least this large",
    note_loss="Risk if chosen: what choosing this variant would lose on average against the best one",
    machine_table="Counts with and without machine traffic",
    views={"all": "All traffic", "human-likely": "Counted here", "strict": "Nothing against it"},
    kinds={"opened": "Opens", "clicked": "Clicks", "replied": "Replies", "converted": "Conversions"},
    view_decision="{view}: {decision}",
    machine_shares="Mails that a machine answered, by variant: {shares}",
    reclassified="Verdicts that changed after the shares of a wave could have gone by them: {count}",
    unjudged="Opens and clicks from an older version: {count}. `abmail events rejudge {name}` judges them, too",
    beside="Reports that are kept and not counted, because others report the same: {count} (counted: {sources})",
    next_steps="What to do next",
    method="Method: {name}",
    looks="error level {alpha}, {looks} planned looks",
    any_looks="error level {alpha}, valid at any number of looks",
    made_by="abmail {version} · definition {hash} · seed {seed} · {at}",
    chart_effects="Difference from control ({control})",
    chart_effects_note="Right of the line is better than the control. A bar that crosses the line may still be chance.",
    chart_axis="percentage points",
    chart_weights="Share of each wave",
    chart_weights_note="How the mails of each wave were shared out.",
    chart_weights_axis="wave",
    chart_curves={"opened": "How soon mails are opened", "clicked": "How soon mails are clicked"},
    chart_curves_note="Share of all mails by their age; the shaded band is uncertainty at each age by itself. A bandit "
    "sends its variants at different hours, so let the table say which is better.",
    chart_curves_axis="hours since the mail was sent",
    chart_habits="When people read",
    chart_habits_kind="Readers of one kind, {share} of all",
    chart_habits_note="The darker an hour, the likelier a waiting mail is opened in it, by the reader's own clock.",
    chart_habits_summary="Busiest: {hours}",
    chart_habits_axis="hour of the day",
    weekdays="Mon Tue Wed Thu Fri Sat Sun",
    chart_delays="How long answers take",
    chart_delays_note="Share of the answers in the window that have come in, by the age of the mail. A mail that "
    "nobody has answered yet counts as that part of a trial",
    every_variant="all variants",
    other_variants="{count} others",
    chart_cut="Shown: the {shown} variants with the largest current share; the table has all {all}.",
)

JA = Words(
    language="ja",
    stop="。",
    comma="、",
    semicolon="、",
    colon="：",
    days="{}日",
    hours="{}時間",
    minutes="{}分",
    seconds="{}秒",
    points="{}ポイント",
    interval="({lower} ～ {upper})",
    under="{}未満",
    states={"draft": "下書き", "running": "実施中", "finished": "終了", "stopped": "停止"},
    goals={"clicked": "送信後{window}以内のクリック", "opened": "送信後{window}以内の開封"},
    subtitle="{state} · 目標：{goal} · {at} 時点",
    question="仮説",
    nothing_sent="まだ送信されていません",
    headlines={
        "winner": "{arm} の勝ち",
        "leading": "{arm} が優勢（まだ確定ではありません）",
        "no_difference": "意味のある差はありません",
        "too_early": "まだ判断できません",
        "stopped": "結論が出る前に停止しました",
    },
    control_wins="基準の {arm} が最良のままです",
    stopped_with="手動で停止し、{arm} を選びました",
    split_off="配信比率に異常があり、この結果ではまだ判断できません",
    audience="対象者",
    sent="送信数",
    held_out="対照として送信しない人",
    pending="送信待ち",
    failed="失敗",
    uncertain="到達不明",
    variants="パターン",
    variant="パターン",
    contents="各パターンの文面",
    control="（基準）",
    baseline="基準",
    opens="開封",
    clicks="クリック",
    rates={"clicked": "クリック率", "opened": "開封率"},
    difference="基準との差",
    relative="増減率",
    p_best="最良確率",
    share="配信比率",
    first_share="最初の配信比率",
    statuses={
        "too_few": "件数不足",
        "zero_variance": "比較できる反応がまだない",
        "srm_failed": "配信比率の異常により非表示",
    },
    other_status="算出できません（{status}）",
    nothing_to_compare="まだ1通も送信していないため、比較できる数値はありません。送信待ち：{pending}通",
    starting_variants="各パターンと、最初の配信での比率",
    no_differences="差はまだ表示できません（{reasons}）。十分な件数がそろうと表示されます",
    note_rate={
        "clicked": "クリック率：送信後{window}以内にクリックした人 ÷ 送信数。"
        "機械によるクリックと判定したものは除きます",
        "opened": "開封率：送信後{window}以内に開封した人 ÷ 送信数。機械による開封と判定したものは除きますが、"
        "画像を自動で読み込むメールソフトがあるため目安の数値です",
    },
    note_points="「ポイント」は百分率の差です。4%から5%になれば +1ポイント",
    note_interval="かっこ内は、真の差を{confidence}の信頼度で含む範囲です。0 を含むあいだは偶然の差かもしれません",
    note_waves="差は配信回ごとに比べて重み付けするため、率の単純な引き算とは一致しないことがあります",
    note_best="「最良確率」は次の配信を割り振るための目安で、保証ではありません",
    note_share="「配信比率」は各回の配信でそのパターンが受け持つ割合で、反応のよいほうへ動きます",
    decision="判定",
    checks="この結果は信頼できるか",
    sample_ratio="配信比率の検査",
    srm_ok="各パターンは予定どおりの比率で配信されています（この程度のずれは、偶然でも{odds}の確率で起こります）",
    srm_bad="各パターンの配信比率が予定と食い違っています（偶然でこうなる確率は{odds}）。"
    "原因が分かるまで、この差をもとに判断しないでください",
    srm_unknown="件数が少なく、配信比率はまだ検査できません",
    maturity="計測の完了",
    mature_all="すべてのメールが送信後{window}を過ぎ、件数は確定しました",
    mature_none="送信後{window}を過ぎたメールはまだなく、件数はこれから増えることがあります",
    mature_part={
        "clicked": "送信後{window}を過ぎたメールは{share}です。残りはこれからクリックが増えることがあります",
        "opened": "送信後{window}を過ぎたメールは{share}です。残りはこれから開封が増えることがあります",
    },
    machines="機械による反応",
    machines_same="{all}件のうち{removed}件を機械によるものとして除きました。含めても首位は変わりません",
    machines_change="{all}件のうち{removed}件を機械によるものとして除きました。数え方によって首位が変わるため、"
    "結果は慎重に読んでください",
    machines_decide="数え方を変えると結論が変わります：{views}",
    machines_uneven="機械による反応がパターン間で偏っています（{shares}、偶然の確率 {odds}）。"
    "リンク数や配信先が異なる可能性があるため、結果は慎重に読んでください",
    guardrails="安全指標",
    guardrails_ok="すべてのパターンが上限以内です（{limits}）",
    guardrails_near="上限をやや上回っていますが、偶然の範囲です：{breaches}",
    guardrails_bad="上限を超えています：{breaches}",
    guardrail_limit="{metric} {limit}",
    guardrail_breach="{arm} の{metric} {rate}（上限 {limit}）",
    delivery="配信",
    delivery_failed="{count}通は送信できませんでした",
    delivery_uncertain="{count}通は到達不明です（サーバーの確認前に接続が切れました）。自動では再送しません。"
    "扱いは `abmail settle` で決めてください",
    send_time="送信時刻",
    send_times={
        "fixed": "予定の時刻に送信しています{hours}",
        "learn": "受信者ごとに時刻を選んでいます{hours}",
        "test": "時刻を比較しています{hours}",
    },
    own_time="受信者の現地時間",
    send_effect="比較用の時刻との差：{effect}",
    send_skipped="{count}通は送信できる時間がありませんでした",
    send_hours="送信時刻の比較",
    send_hours_lead="受信者の現地時間です。計測期間が終わったメールだけを数え、率は全員にその時刻に送った場合の推定値です。",
    send_hour="時刻",
    alert="問題：",
    passed="良好",
    attention="注意",
    failed_check="問題",
    metrics={"unsubscribed": "配信停止", "complained": "迷惑メール報告", "bounced": "不達"},
    limit="上限 {limit}",
    factors="要素ごとの効果",
    factor="要素：{factor}",
    factor_names={
        "subject": "件名",
        "cta": "ボタンの文言",
        "preheader": "プリヘッダー",
        "from_name": "差出人名",
        "body": "本文",
    },
    factors_lead="ほかの要素について平均した、要素ごとの効果です",
    factors_together={
        "surely": "組み合わせの効果があるようです（確率 {chance}）。要素ごとではなく、パターン全体で判断してください",
        "hardly": "要素は独立に効いています（組み合わせの効果がある確率 {chance}）。最良の内容どうしを合わせられます",
        "unknown": "組み合わせの効果があるかどうかは、まだわかりません（確率 {chance}）",
    },
    level="内容",
    segments="セグメント別",
    segments_by="セグメント別：{by}",
    segment="{by}：{value}",
    no_value="（記入なし）",
    segment_winner="{segment}（勝者：{arm}）",
    best_guess="補正後の差",
    segments_cut="全{all}セグメントのうち大きい{shown}件を示しています。小さい{left_out}件は分析に含め、表からは省きました",
    note_segment="範囲はセグメントごとのもので、数が多ければ偶然に外れるものもあります。"
    "セグメント間の違いが確認できたときだけ勝者を示します",
    note_best_guess="補正後の差：ほかのセグメントと一致する度合いに応じて、全体に近づけた差です。小さいセグメントほど強く近づけます",
    note_attributes="属性を次々に試すと、偶然だけで効いているように見えるものが見つかります",
    values="1通あたりの成果額",
    values_lead={
        "converted": "送信後{window}以内のコンバージョンを1通ごとに合計しました。ないメールは0として数えます",
        "replied": "送信後{window}以内の返信を1通ごとに合計しました。ないメールは0として数えます",
    },
    valued={"converted": "コンバージョン", "replied": "返信"},
    total="合計",
    per_mail="1通あたり",
    values_cap="1通の上限は{limit}です（超えたメールは{capped}通）。合計には上限を適用していません",
    values_open="計測期間が終わっていないメールも含むため、金額はまだ増えます",
    second="もう一つの見方（事前に登録されていないため、判定には使いません）",
    second_lead="方法 {method}、有意水準 {alpha}、{verdicts}",
    verdicts={"human-likely": "機械による反応を除く", "all": "機械による反応を含む", "strict": "確実な反応のみ"},
    second_says="この方法による結果：{headline}",
    allocation="配信の割り当て",
    segment_shares="最新の配信分での比率",
    waves="配信回",
    wave="回",
    opened_at="開始（UTC）",
    waves_cut="基準と配信比率の大きいパターン（全{all}のうち{shown}）を示しています",
    one_wave="配信はまだ1回のため、配信比率は変更されていません",
    waves_lead="{since} から{count}回配信しました。比率は、回ごとにその時点で分かっていることから決め直します",
    more="パターンごとのその他の数値",
    p_value="p値",
    loss="選んだ場合のリスク",
    note_p_value="p値：偶然だけでこれ以上の差が現れる確率です",
    note_loss="選んだ場合のリスク：そのパターンを選んだとき、最良のものと比べて平均で失う分です",
    machine_table="機械による反応を含む件数と除いた件数",
    views={"all": "すべて", "human-likely": "この報告の件数", "strict": "疑いのないもののみ"},
    kinds={"opened": "開封", "clicked": "クリック", "replied": "返信", "converted": "コンバージョン"},
    view_decision="{view}：{decision}",
    machine_shares="機械が反応したメールの割合：{shares}",
    reclassified="配信比率に使われた可能性がある後で判定が変わった件数：{count}",
    unjudged="旧バージョンの開封・クリック：{count}件。`abmail events rejudge {name}` で判定できます",
    beside="同じ反応をほかの送信元も報告しているため、数えずに保存した件数：{count}（採用：{sources}）",
    next_steps="次にすること",
    method="分析方法：{name}",
    looks="有意水準 {alpha}、確認回数の計画 {looks}回",
    any_looks="有意水準 {alpha}、何回確認しても有効",
    made_by="abmail {version} · 定義 {hash} · シード {seed} · {at}",
    chart_effects="基準（{control}）との差",
    chart_effects_note="縦線より右は基準より良いことを示します。縦線をまたぐ棒は、偶然の差かもしれません。",
    chart_axis="ポイント（百分率の差）",
    chart_weights="回ごとの配信比率",
    chart_weights_note="各回のメールをどう割り振ったかを示します。",
    chart_weights_axis="配信回",
    chart_curves={"opened": "開封されるまでの時間", "clicked": "クリックされるまでの時間"},
    chart_curves_note="送信からの経過時間ごとの、全メールに占める割合です。色の帯は各時点での不確かさを表します。"
    "パターンごとに送信時刻が異なるため、優劣は表で判断してください。",
    chart_curves_axis="送信からの時間（時間）",
    chart_habits="よく読まれる時間帯",
    chart_habits_kind="似た習慣の読者（全体の{share}）",
    chart_habits_note="色が濃いほど、その時間に開封されやすいことを表します（受信者の現地時間）。",
    chart_habits_summary="よく読まれる時間：{hours}",
    chart_habits_axis="時刻（時）",
    weekdays="月 火 水 木 金 土 日",
    chart_delays="反応までの時間",
    chart_delays_note="計測期間内の反応のうち、送信からの経過時間までに届く割合です。まだ反応のないメールは、この割合の分だけ試行として数えます",
    every_variant="全パターン",
    other_variants="ほか{count}件",
    chart_cut="配信比率が大きい{shown}パターンを図示しています。全{all}パターンは表にあります。",
)


def words_for(language: Language) -> Words:
    """The phrases of a language; a ValueError names the languages there are."""
    for words in (EN, JA):
        if words.language == language:
            return words
    raise ValueError(f"language is {language!r}, must be 'en' or 'ja'")
