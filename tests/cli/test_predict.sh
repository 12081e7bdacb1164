#!/usr/bin/env bash
# dft predict on image files: folders, lists, arrays and unreadable files, the same at every number of ranks.
source "$DFT_SOURCE/tests/common.sh"
export OMP_NUM_THREADS=1
images=$DFT_SOURCE/tests/golden/data/images
small_config "$work/run" >"$work/config.yaml"
ok "train" np 1 "$work/config.yaml" "model.class_names=[ant, 'bee, wild', cat]" phases.1.epochs=1
final=$work/run/final.pb
cd "$work" || exit 1

# an image of less than twice the model's size is what its pixels in an array are; the expected pixels are Pillow's
row=$(grep '"rgb.png"' "$DFT_SOURCE/tests/golden/image_goldens.h")
offset=$(cut -d, -f7 <<<"$row")
printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 23, 31, 3), }" >one.npy
zcat "$images/expected.gz" | tail -c +$((offset + 1)) | head -c $((23 * 31 * 3)) >>one.npy
expect 0 "" "$DFT" predict "$final" one.npy "$images/rgb.png" --output both.csv
[ "$(sed -n 2p both.csv | cut -d, -f2-)" = "$(sed -n 3p both.csv | cut -d, -f2-)" ] || fail "rgb.png is not its array"
[ "$(sed -n 3p both.csv | cut -d, -f1)" = "$images/rgb.png" ] || fail "an image's name is not its path"
[ "$(head -1 both.csv)" = 'input,predicted,probability,ant,"bee, wild",cat' ] || fail "header: $(head -1 both.csv)"

printf '\x93NUMPY\x01\x00\x76\x00%-117s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': (23, 31, 3), }" >hwc.npy
tail -c $((23 * 31 * 3)) one.npy >>hwc.npy
expect 65 "hwc.npy: shape (23, 31, 3): is this one image? save image[None], shape (1, 23, 31, 3)" np_quiet 2 predict "$final" hwc.npy

# a folder: all below, by name, whatever the ending says; hidden and other files left out
mkdir -p tree/b/deep tree/a tree/.hidden
cp "$images/rgb.png" tree/a/2.png && cp "$images/422.jpg" tree/a/10.JPG && cp "$images/lossy.webp" tree/b/x.webp
cp "$images/plain.gif" tree/b/deep/y.gif && cp "$images/strips.tif" tree/z.tiff && cp "$images/wrong_name.png" tree/b/a.png
cp "$images/rgb.png" tree/.hidden/ && echo text >tree/a/notes.txt && cp "$images/plain.bmp" tree/b/.h.bmp
expect 0 "tree: 1 file was passed over, named like no image, as a/notes.txt" "$DFT" predict "$final" tree/ --output tree.csv
[ "$(cut -d, -f1 tree.csv | tr '\n' ' ')" = "input tree/z.tiff tree/a/10.JPG tree/a/2.png tree/b/a.png tree/b/x.webp tree/b/deep/y.gif " ] ||
  fail "order: $(cut -d, -f1 tree.csv | tr '\n' ' ')"

# unreadable ones are named, have an empty row, and the others are predicted; the same at every np
head -c 300 "$images/422.jpg" >tree/a/cut.jpg
: >tree/b/empty.png
echo "not an image" >tree/b/deep/text.jpg
for ranks in 1 2 5; do
  for output in csv npy; do
    expect 65 "4 of 12 images could not be read; the others are predicted" np_quiet $ranks predict "$final" tree one.npy tree/a/2.png \
      absent.jpg --output "p$ranks.$output"
    for words in "tree/a/cut.jpg: damaged or truncated JPEG" "tree/b/empty.png: " "tree/b/deep/text.jpg: not an image" "absent.jpg: "; do
      grep -qF "$words" out || { cat out >&2; fail "np $ranks: nothing about $words"; }
    done
    same "p1.$output" "p$ranks.$output" "np $ranks"
  done
done
[ "$(grep -c ',,,,,$' p1.csv)" = 4 ] || { cat p1.csv >&2; fail "not four empty rows"; }
[ "$(grep -v ',,,,,$' p1.csv | head -6)" = "$(head -6 tree.csv)" ] || fail "the others are not predicted as before"
[ "$(tail -c 12 p1.npy | od -An -tx4 | tr -d ' ')" = 7fc000007fc000007fc00000 ] || fail "an unreadable image is not NaN in the .npy"

# paths on standard input
find tree/a -type f | sort | grep -v notes >list
printf 'tree/a/2.png\r\n\ntree/b/deep\n' >>list
rm tree/b/deep/text.jpg
"$DFT" predict "$final" - <list >listed.csv 2>err
rc=$?
[ $rc = 65 ] || { cat err >&2; fail "from standard input: exit code $rc"; }
[ "$(cut -d, -f1 listed.csv | tr '\n' ' ')" = "input tree/a/10.JPG tree/a/2.png tree/a/cut.jpg tree/a/2.png tree/b/deep/y.gif " ] ||
  fail "listed: $(cut -d, -f1 listed.csv | tr '\n' ' ')"
timeout 60 mpirun --oversubscribe --bind-to none -np 3 "$DFT" predict "$final" - --output listed3.csv <list >/dev/null 2>&1
same listed.csv listed3.csv "standard input at np 3"
expect 65 "standard input: no paths" "$DFT" predict "$final" - </dev/null

# NUL bytes separate them when one comes first: then names may have newlines, and a carriage return is part of one
mkdir odd && cp tree/a/2.png $'odd/new\nline.png' && cp tree/b/x.webp $'odd/return.webp\r' && cp tree/a/cut.jpg $'odd/cut\n.jpg'
listed() { # the names in a table of one line each, newlines and carriage returns as !
  awk 'NR > 1 {n += gsub(/"/, "\""); printf "%s%s", $0, n % 2 ? "!" : "\n"}' "$1" | tr '\r' '!' | sed 's/",.*/"/; t; s/,.*//' | tr '\n' ' '
}
{ printf 'tree/a/2.p' && sleep 0.3 && printf 'ng\0odd/new\nline.png\0\0odd/return.webp\r\0tree/b/deep'; } |
  "$DFT" predict "$final" - --output nul.csv 2>err || { cat err >&2; fail "NUL-separated: exit code $?"; }
[ "$(listed nul.csv)" = 'tree/a/2.png "odd/new!line.png" "odd/return.webp!" tree/b/deep/y.gif ' ] || { cat -A nul.csv >&2; fail "listed: $(listed nul.csv)"; }
[ "$(sed -n 2p nul.csv | cut -d, -f2-)" = "$(sed -n 4p nul.csv | cut -d, -f2-)" ] || fail "a name with a newline is another image"
printf 'odd/cut.jpg\0odd/cut\n.jpg\0tree/a/2.png' >nul_list
expect 65 "2 of 3 images could not be read" "$DFT" predict "$final" - <nul_list
printf 'tree/a/2.png\ntree/a/10.JPG\0tree/a/2.png\0' >mixed_list
expect 65 "standard input: a NUL byte in a list of lines" "$DFT" predict "$final" - <mixed_list
long=tree/$(printf './%.0s' {1..500})a/2.png # 100 of them are more than what is read at once
for i in {1..100}; do printf '%s\0' "$long"; done >long_list
expect 0 "" "$DFT" predict "$final" - --output long.csv <long_list
[ "$(tail -n +2 long.csv | uniq -c | awk '{print $1}')" = 100 ] || fail "of 100 paths: $(wc -l <long.csv) lines"
tr '\0' '\n' <long_list >long_lines
expect 0 "" "$DFT" predict "$final" - --output long_lines.csv <long_lines
same long.csv long_lines.csv "by NUL and by line"
expect 65 "standard input: more than 65536 bytes without the end of a line" "$DFT" predict "$final" - < <(tr -d '\0' <long_list)
expect 65 "standard input: more than 65536 bytes without the end of a name (NUL)" "$DFT" predict "$final" - < <(printf 'a\0' && tr '\0' '\n' <long_list)
mkdir nothing
touch nothing/IMG_1.HEIC nothing/IMG_2.HEIC
expect 65 "nothing: 2 files were passed over, named like no image, as IMG_1.HEIC" "$DFT" predict "$final" nothing
expect 65 "nothing: no images in this folder" "$DFT" predict "$final" nothing

# the most probable classes only
expect 0 "" "$DFT" predict "$final" tree/a/2.png --top 3 --output top.csv
[ "$(head -1 top.csv)" = "input,predicted,probability,predicted_2,probability_2,predicted_3,probability_3" ] || fail "header: $(head -1 top.csv)"
sed -i 's/"bee, wild"/bee/g' both.csv top.csv
paste -d' ' <(sed -n 3p both.csv | cut -d, -f4- | tr , '\n') <(head -1 both.csv | cut -d, -f4- | tr , '\n') | sort -gr >sorted
[ "$(awk -F, 'NR == 2 {for (i = 2; i < NF; i += 2) print $(i + 1), $i}' top.csv)" = "$(cat sorted)" ] ||
  { cat top.csv sorted >&2; fail "--top is not the sorted probabilities"; }
expect 2 "--top 4" "$DFT" predict "$final" tree/a/2.png --top 4
for top in x 0 -1; do expect 2 "number from 1" "$DFT" predict "$final" tree/a/2.png --top $top; done
expect 2 "has all probabilities" "$DFT" predict "$final" tree/a/2.png --top 2 --output x.npy
echo "images, folders, lists and arrays are predicted alike"
