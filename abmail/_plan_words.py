"""The words of a plan as people read it, in English and Japanese; braces name the values that are put in."""

from __future__ import annotations

from typing import Final

__all__ = ["DAYS", "EFFECTS", "KINDS", "REASONS", "SAYINGS", "STATES"]

SAYINGS: Final[dict[str, tuple[str, str]]] = {
    "subtitle_new": ("plan of a new experiment · {at}", "新しい実験の計画 · {at} 時点"),
    "subtitle": (
        "plan against version {version}, which is {state} · {at}",
        "第{version}版（{state}）に対する計画 · {at} 時点",
    ),
    "head_nobody": ("Nobody would get a mail", "送信対象がいません"),
    "head_new": ("{mails} mails would go out, in {variants} variants", "{mails}通を{variants}案で送信します"),
    "head_same": ("Nothing would change", "変更はありません"),
    "head_joins": ("{new} people would join", "{new}人が新たに加わります"),
    "head_changes": ("{n} changes, none of which breaks the test", "変更は{n}件、テストを壊すものはありません"),
    "head_change": ("1 change, which does not break the test", "変更は1件、テストは壊れません"),
    "head_breaks": (
        "{n} of {all} changes would break the running test",
        "変更{all}件のうち{n}件が実施中のテストを壊します",
    ),
    "head_ended": ("The experiment has ended, and takes no changes", "実験は終了しており、変更できません"),
    "shows": (
        (
            "With {mails} mails that compare the variants the test shows a rise from {low} to {high} in {chance} "
            "of the cases; the smallest rise that it shows in {wanted} of them is {smallest}"
        ),
        (
            "比較に使う{mails}通で、{low}から{high}への上昇を{chance}の確率で示せます。{wanted}の確率で示せる最小の"
            "差は{smallest}です"
        ),
    ),
    "shows_never": (
        (
            "With {mails} mails that compare the variants the test shows a rise from {low} to {high} in {chance} "
            "of the cases; no difference is large enough to be shown in {wanted} of them"
        ),
        (
            "比較に使う{mails}通で、{low}から{high}への上昇を{chance}の確率で示せます。{wanted}の確率で示せる差はあ"
            "りません"
        ),
    ),
    "mails": ("Mails", "メール"),
    "held_out": ("Held out", "保留"),
    "suppressed": ("Never mailed", "送信停止"),
    "outside": ("Outside the segment", "対象外"),
    "out": ("Out already", "送信済み"),
    "to_come": ("To come", "これから送信"),
    "new": ("New", "新規"),
    "changes": ("Changes", "変更点"),
    "setting": ("Setting", "設定"),
    "before": ("In force", "現在"),
    "after": ("Planned", "計画"),
    "meaning": ("What it means", "意味"),
    "nothing_set": ("(none)", "（なし）"),
    "people": ("Who gets no mail", "送信しない人"),
    "reason": ("Reason", "理由"),
    "number": ("People", "人数"),
    "variants": ("Variants", "バリアント"),
    "variant": ("Variant", "バリアント"),
    "content": ("Content", "内容"),
    "expected": ("Expected", "見込み"),
    "exact": ("Mails", "通数"),
    "fewest": ("Fewest", "最少"),
    "most": ("Most", "最多"),
    "control": ("(control)", "（基準）"),
    "waves": ("Waves", "配信回"),
    "wave": ("Wave", "回"),
    "opens": ("Opens (UTC)", "開始 (UTC)"),
    "rest_of_test": ("the rest", "残り"),
    "days": ("Days, by the recipients' clocks", "日別（受信者の現地時刻）"),
    "day": ("Day", "日"),
    "zones": ("Time zones", "タイムゾーン"),
    "zone": ("Zone", "ゾーン"),
    "first": ("First mail", "最初"),
    "last": ("Last mail", "最後"),
    "free": ("no mail on {days}, a holiday", "{days}は祝日のため送信なし"),
    "rules": ("Mail may go out {rules}, by each recipient's clock", "送信できる時間：{rules}（受信者の現地時刻）"),
    "rules_one": ("Mail may go out {rules}, by the clock in {zone}", "送信できる時間：{rules}（{zone}の時刻）"),
    "any_time": ("at any time", "いつでも"),
    "between": ("between {between}", "{between}"),
    "at": ("from {at} on", "{at}以降"),
    "on_days": ("on {days}", "{days}"),
    "quiet": ("not from {quiet}", "{quiet}を除く"),
    "holidays": ("not on holidays", "祝日を除く"),
    "power": ("What the test can show", "テストで示せること"),
    "rise": ("True rise", "真の上昇幅"),
    "rate": ("Rate", "率"),
    "chance": ("Chance to show it", "示せる確率"),
    "duration": (
        "The last mail goes out {span} after the first, and the result is final {until} after it",
        "最初の送信から最後の送信まで{span}、結果の確定は最初の送信から{until}後です",
    ),
    "duration_at_once": (
        "All mails go out together, and the result is final {until} later",
        "一度に送信し、結果の確定は{until}後です",
    ),
    "own_hours": (
        "The mails of a wave get hours of their own from then on, and their variants with the hour",
        "各回のメールはこの時点から個別の時刻が決まり、案はその時刻に割り当てます",
    ),
    "stop_after": (
        "The stop rule ends the test {after} after the first mail at the latest",
        "停止規則により、遅くとも最初の送信から{after}後に終わります",
    ),
    "gained": (
        "Against an even split the shares gain about {gained} {noun} if one variant is better by {effect}",
        "一つの案が{effect}優れている場合、均等割より約{gained}件多く{noun}が得られます",
    ),
    "gained_none": (
        "The split is even: no {noun} are gained or lost against an even one",
        "均等割なので、均等割との差はありません",
    ),
    "gained_lost": (
        "Against an even split the shares lose about {gained} {noun} if one variant is better by {effect}",
        "一つの案が{effect}優れている場合、均等割より約{gained}件少なくなります",
    ),
    "simulated": ("from {n} simulated mailings, ±{se}", "{n}回の模擬配信から、±{se}"),
    "clicks": ("clicks", "クリック"),
    "opens_noun": ("opens", "開封"),
    "answers": ("answers", "反応"),
    "advised": (" ({hint})", "（{hint}）"),
    "warnings": ("To know before applying", "適用前の確認"),
    "refused": (
        "{n} of those who would get a mail say no in the column {column}: take them out with the segment",
        "送信対象のうち{n}人の「{column}」列が「いいえ」です。セグメントで除いてください",
    ),
    "never": (
        "for {n} mails no hour is left that the rules allow; they would not be sent",
        "{n}通は許される時間がなく、送信されません",
    ),
    "paused": ("the experiment is paused: {why}", "実験は一時停止中です：{why}"),
    "even_split": (
        (
            "The shares of the policy {policy} are not known yet: it begins evenly, and no variant gets less than "
            "{floor}"
        ),
        "{policy}の配分はまだ決まっていません。均等に始め、どの案も{floor}を下回りません",
    ),
    "now_split": (
        "By what is known now the next wave would be split {shares}",
        "現時点で分かっていることから、次回の配分は{shares}です",
    ),
    "one_split": ("Everybody who is still to get a mail gets {arm}", "これから送信する全員に{arm}を送ります"),
    "test_split": (
        "{test} mails compare the variants evenly; everybody else gets the best of them",
        "{test}通で均等に比較し、残りの全員に最良の案を送ります",
    ),
    "at_once": (
        "A wave is reckoned to go out at once when it opens, and a sender to be at work",
        "各回は開始と同時に送信されるものとして計算しています",
    ),
    "sampled": ("The moments are those of {n} recipients, who stand for all", "時刻は{n}人の標本から計算しました"),
    "rate_from": ("The rate of {rate} is {source}", "{rate}という率は{source}です"),
    "source_definition": ("that of the definition", "定義の値"),
    "source_past": ("that of earlier mailings", "過去の配信の値"),
    "source_typical": (
        "a typical one: write your own into analysis.baseline",
        "一般的な値（analysis.baseline に実際の値を書いてください）",
    ),
    "effect_assumed": (
        "A rise by a fifth of the rate is assumed: write the smallest one worth finding into analysis.mde",
        "率の2割の上昇を仮定しています（見つけたい最小の差を analysis.mde に書いてください）",
    ),
    "many_variants": (
        "One of {n} variants is taken to be better than the others, which are alike, and must beat each of them",
        "{n}案のうち一つだけが優れ、ほかは同等と仮定し、そのすべてに勝つ必要があります",
    ),
    "one_by_one": (
        (
            "Reckoned as if people were dealt one by one: companies, whose people answer alike, show less (abmail "
            "power --icc)"
        ),
        "一人ずつ割り当てる場合の計算です。会社単位では示せる力が下がります（abmail power --icc）",
    ),
    "arrivals": (
        "About {n} mails a day join from then on, as people came in the last four weeks (the busiest day left out)",
        "その後は1日約{n}通が加わります（直近4週間の追加ペース、最多の日を除く）",
    ),
    "moved": (
        "{n} people would get another variant; refused while the test runs",
        "{n}人の案が変わります。実施中は適用できません",
    ),
    "next_apply": ("Next: abmail apply {name}", "次：abmail apply {name}"),
    "next_new_name": (
        "Next: take the changes back, or stop it (abmail stop {name}) and give the new test a name of its own",
        "次：変更を元に戻すか、停止して（abmail stop {name}）新しい名前でテストを作ってください",
    ),
    "next_send": (
        "Version {version} is in force; next: abmail send {name}",
        "第{version}版が有効です。次：abmail send {name}",
    ),
}

DAYS: Final[dict[str, tuple[str, str]]] = {
    "mon": ("Mon", "月"),
    "tue": ("Tue", "火"),
    "wed": ("Wed", "水"),
    "thu": ("Thu", "木"),
    "fri": ("Fri", "金"),
    "sat": ("Sat", "土"),
    "sun": ("Sun", "日"),
}

STATES: Final[dict[str, tuple[str, str]]] = {
    "running": ("running", "実施中"),
    "stopped": ("stopped", "停止"),
    "finished": ("finished", "終了"),
}

REASONS: Final[dict[str, tuple[str, str]]] = {
    "unsubscribed": ("unsubscribed", "配信停止の申し出"),
    "complained": ("complained", "迷惑メール報告"),
    "bounced": ("unreachable: bounced", "届かない：不達"),
    "soft-bounced": ("unreachable: bounced again and again", "届かない：繰り返し不達"),
    "by hand": ("suppressed by hand", "手動で停止"),
}

KINDS: Final[dict[str, tuple[str, str]]] = {
    "words": ("only words", "説明のみ"),
    "format": ("the form of the file", "ファイル形式"),
    "joins": ("a variant joins, with the smallest share at first", "案が加わる（最初は最小の配分）"),
    "segment": ("who joins from now on; nobody who is in leaves", "今後加わる人が変わる（すでにいる人は残る）"),
    "measured": ("what is watched beside the primary metric", "主指標以外の監視"),
    "planning": ("what is planned for; no mail changes", "計画上の値（メールは変わらない）"),
    "stop": ("when the test ends, and what then goes out", "終了の条件とその後の送信"),
    "shares": ("how the mails are shared", "配分の方法"),
    "hours": ("when mails go out", "送信時間"),
    "mail": ("what all variants have in common", "全案に共通の内容"),
    "salt": ("deals the cards anew", "割り当てをやり直す"),
    "holdout": ("who is held out", "保留する人"),
    "unit": ("what is dealt as one", "割り当ての単位"),
    "variants": ("a variant goes", "案がなくなる"),
    "variant": ("a variant would be two in one", "一つの案に二つの内容が混ざる"),
    "question": ("the question would be another one", "問いそのものが変わる"),
    "sources": ("early and late mails would not be alike", "前後のメールが別物になる"),
}

EFFECTS: Final[dict[str, tuple[str, str]]] = {
    "nothing": ("nothing for mails or result", "メールと結果への影響なし"),
    "next_look": ("from the next look on", "次の判定から"),
    "next_wave": ("from the next wave on", "次の配信回から"),
    "moves": ("{moved}", "{moved}"),
    "forbidden": ("refused while the test runs", "実施中は適用できません"),
}
